"""Where questions come from: reasoning-gym data sets, JSON-lines files, and mixtures of them in YAML.

A spec is a short text: ``rg:NAME``, ``jsonl:PATH``, the name of a built-in mixture, or a ``.yaml`` file that holds one;
options follow in braces, as in ``rg:chain_sum {size: 200, options: {max_terms: 2}}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field, ValidationError

from polar_env.config import Config
from polar_env.errors import ConfigError, QuestionError, QuestionFileError, UnknownNameError
from polar_env.questions.ask import Ask
from polar_env.questions.question import Question
from polar_env.questions.twins import Split, normalise, split_of, twin_clusters
from polar_env.questions.verifiers import VERIFIERS

__all__ = ["QuestionPool", "QuestionSpec", "builtin_mixtures", "load_pool", "load_questions", "parse_spec"]

_DEFAULT_SIZE = 400
_TRIES_PER_QUESTION = 60
"""How many draws from a procedural data set may fail (duplicate, no match) for each question asked for."""


def _regular_expression(pattern: str | None) -> str | None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise ValueError(f"no regular expression ({error})") from error
    return pattern


def _template(text: str | None) -> str | None:
    try:
        (text or "").format(expression="1 + 1")
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError("a template may only name {expression}") from error
    return text


class QuestionSpec(Config):
    """One source of questions."""

    source: str
    """``rg:NAME`` or ``jsonl:PATH``."""
    task: str | None = None
    """Name of the task in reports; by default the source's own name."""
    size: int | None = Field(default=None, ge=1)
    """How many distinct questions to take, over all splits; by default a whole file, or 400 of a procedural data set
    (a finite one may hold fewer)."""
    options: dict[str, Any] = Field(default={})
    """Options of the reasoning-gym data set."""
    seed: int = 0
    """Seed of the reasoning-gym data set; apart from a run's seed, so that splits stay what they are."""
    match: Annotated[str | None, AfterValidator(_regular_expression)] = None
    """Regular expression that ``EXPRESSION = ANSWER`` (or the question's text) must match from end to end."""
    text: Annotated[str | None, AfterValidator(_template)] = None
    """Template that rephrases the question, e.g. ``What is {expression}?``."""
    verifier: str | None = None
    """``exact``, ``math``, ``choice`` or ``reasoning_gym``; by default a source's own: reasoning-gym's scorer for its
    questions, ``choice`` for questions with choices, ``math`` for others."""
    split: Split | None = None
    """Put every question of this source into one split, for files that come already split."""


def builtin_mixtures() -> dict[str, Path]:
    """The mixtures that ship with the package, by name."""
    folder = Path(str(resources.files("polar_env.questions") / "sets"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def parse_spec(text: str) -> list[QuestionSpec]:
    """Read a spec.

    Raises:
        UnknownNameError: for a mixture or data set that does not exist.
        ConfigError: for options that are malformed, with the key.
    """
    name, brace, options = text.strip().partition("{")
    name = name.strip()
    if name.startswith(("rg:", "jsonl:")):
        try:
            given = yaml.safe_load(brace + options) if brace else {}
            return [QuestionSpec.model_validate({"source": name, **given})]
        except (ValidationError, yaml.YAMLError) as error:
            raise ConfigError(f"questions '{text}': {_first_problem(error)}") from error
    mixtures = builtin_mixtures()
    path = mixtures.get(name, Path(name))
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        hint = "Or give rg:NAME, jsonl:PATH, or a .yaml file with a list of sources."
        raise UnknownNameError("question set", name, mixtures, hint)
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(entries, list):
            raise ConfigError(f"{path} holds no list of sources; each entry is a mapping with the key 'source'.")
        return [QuestionSpec.model_validate(entry) for entry in entries]
    except (ValidationError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {_first_problem(error)}") from error


def _first_problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        keys = ", ".join(QuestionSpec.model_fields)
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}. Keys: {keys}."
    return str(error)


@dataclass(frozen=True)
class QuestionPool:
    """All distinct questions of some specs, every one in the split of its twins.

    Attributes:
        questions: in a fixed order.
        duplicates: questions left out because the same ask came before.
        twins_removed: questions left out because a twin came before in a source with another fixed split.
        broken: what was wrong with each line of a file that was left out.
    """

    questions: tuple[Question, ...]
    duplicates: int
    twins_removed: int
    broken: tuple[str, ...]

    def split(self, split: Split) -> list[Question]:
        """The questions of one split."""
        return [question for question in self.questions if question.split == split]


def load_pool(specs: Sequence[str], *, skip_broken: bool = False) -> QuestionPool:
    """Load the questions of some specs and give every cluster of twins one split.

    Args:
        specs: see `parse_spec`.
        skip_broken: leave out broken lines of JSON files and describe them; otherwise they raise.

    Raises:
        QuestionError: if there are no specs; QuestionFileError for a broken line.
    """
    if not specs:
        raise QuestionError("no questions were given; pass --questions SPEC, e.g. --questions arithmetic.")
    broken: list[str] | None = [] if skip_broken else None
    distinct: dict[tuple[str, ...], tuple[Question, QuestionSpec]] = {}
    total = 0
    for spec in [entry for text in specs for entry in parse_spec(text)]:
        for question in _questions_of(spec, broken):
            total += 1
            distinct.setdefault((normalise(question.text), *question.choices), (question, spec))
    clusters = twin_clusters(
        [question.ask for question, _ in distinct.values()],
        [question.entry is None for question, _ in distinct.values()],
    )
    split_of_cluster: dict[str, Split] = {}
    for cluster, (_, spec) in zip(clusters, distinct.values(), strict=True):
        if spec.split is not None:
            split_of_cluster.setdefault(cluster, spec.split)
    kept = []
    for cluster, (question, spec) in zip(clusters, distinct.values(), strict=True):
        split = split_of_cluster.setdefault(cluster, split_of(cluster))
        if spec.split in (None, split):
            kept.append(question if question.split == split else replace(question, split=split))
    return QuestionPool(tuple(kept), total - len(distinct), len(distinct) - len(kept), tuple(broken or ()))


def load_questions(specs: Sequence[str], split: Split | None = None, *, skip_broken: bool = False) -> list[Question]:
    """The distinct questions of some specs, or those of one split, in a fixed order; see `load_pool`.

    Raises:
        QuestionError: if nothing is left; QuestionFileError for a broken line.
    """
    pool = load_pool(specs, skip_broken=skip_broken)
    questions = list(pool.questions) if split is None else pool.split(split)
    if not questions:
        raise QuestionError(f"{', '.join(specs)} holds no questions in the split '{split or 'any'}'.")
    return questions


def _questions_of(spec: QuestionSpec, broken: list[str] | None) -> Iterator[Question]:
    if spec.verifier is not None and spec.verifier not in VERIFIERS:
        raise UnknownNameError("verifier", spec.verifier, VERIFIERS)
    kind, _, name = spec.source.partition(":")
    if kind == "rg":
        return _from_reasoning_gym(spec, name)
    if kind == "jsonl":
        return _from_json_lines(spec, Path(name).expanduser(), broken)
    raise UnknownNameError("kind of question source", kind, ["rg", "jsonl"])


def _from_reasoning_gym(spec: QuestionSpec, name: str) -> Iterator[Question]:
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if name not in DATASETS:
        raise UnknownNameError("reasoning-gym task", name, DATASETS)
    size = spec.size or _DEFAULT_SIZE
    tries = size * _TRIES_PER_QUESTION
    try:
        dataset = reasoning_gym.create_dataset(name, seed=spec.seed, size=tries, **spec.options)
    except (TypeError, AssertionError, ValueError) as error:
        raise ConfigError(f"options {spec.options} of rg:{name}: {error}") from error
    seen: set[str] = set()
    for index in range(tries):
        entry = dataset[index]
        expression = entry["metadata"].get("expression")
        if expression and str(expression) not in str(entry["question"]):
            expression = None  # in some data sets the expression is the answer
        whole = f"{expression} = {entry['answer']}" if expression else str(entry["question"])
        if spec.match is not None and re.fullmatch(spec.match, whole) is None:
            continue
        text = spec.text.format(expression=expression) if spec.text and expression else str(entry["question"])
        if normalise(text) in seen or entry["answer"] is None or not str(entry["answer"]).strip():
            continue
        seen.add(normalise(text))
        yield Question(
            Ask(text, spec.task or name, f"{expression} =" if expression else None),
            str(entry["answer"]),
            verifier=spec.verifier or "reasoning_gym",
            split=spec.split,
            entry=entry,
        )
        if len(seen) == size:
            return


def _from_json_lines(spec: QuestionSpec, path: Path, broken: list[str] | None) -> Iterator[Question]:
    if not path.is_file():
        raise QuestionFileError(f"{path}: there is no such file.")
    taken = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if taken == spec.size or not line.strip():
                continue
            try:
                question = _from_json_line(line.decode("utf-8"), spec, path.parent.name)
            except (QuestionError, ValueError) as error:
                problem = f"{path}:{number}: {error}"
                if broken is None:
                    mend = "Mend the line, or pass --skip-bad to leave such lines out and count them."
                    raise QuestionFileError(f"{problem} {mend}") from error
                broken.append(problem)
                continue
            if spec.match is None or re.fullmatch(spec.match, question.text):
                taken += 1
                yield question


def _from_json_line(line: str, spec: QuestionSpec, folder: str) -> Question:
    """One question from one line: {question, answer} or {question, choices, gold}."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise QuestionError(f"not JSON ({error.msg} at column {error.colno}).") from error
    if not isinstance(row, dict):
        raise QuestionError('not a JSON object; a line is {"question": .., "answer": ..}.')
    text = _field(row, "question", str)
    choices: tuple[str, ...] = ()
    if "choices" in row:
        choices = tuple(str(choice) for choice in _field(row, "choices", list))
        gold = _field(row, "gold", int)
        if not 0 <= gold < len(choices):
            raise QuestionError(f"field 'gold' is {gold}, but there are {len(choices)} choices (0-based).")
        answer = choices[gold]
    else:
        answer = str(_field(row, "answer", (str, int, float)))
    return Question(
        Ask.typed(text, spec.task or str(row.get("task") or folder), choices),
        answer,
        verifier=spec.verifier or ("choice" if choices else "math"),
        split=spec.split,
        difficulty=str(row.get("difficulty", row.get("level", ""))),
    )


def _field(row: dict[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    if name not in row:
        raise QuestionError(f"field '{name}' is missing; the line has {', '.join(map(repr, row)) or 'no fields'}.")
    if not isinstance(row[name], kind) or isinstance(row[name], bool):
        raise QuestionError(f"field '{name}' is {row[name]!r}, which is of the wrong type.")
    return row[name]
