"""Where questions come from: reasoning-gym data sets, JSON lines, hub data sets, files in registry wheels."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from polar_env.assets import wheel_member
from polar_env.errors import ConfigError, QuestionError, QuestionFileError, UnknownNameError
from polar_env.questions.ask import Ask
from polar_env.questions.question import Question
from polar_env.questions.records import question_of, record_of_line
from polar_env.questions.spec import SOURCES, QuestionSpec, Record, Records, parse_spec
from polar_env.questions.twins import Split, normalise, split_of, twin_clusters
from polar_env.questions.verifiers import VERIFIERS

__all__ = ["QuestionPool", "load_pool", "load_questions"]

_DEFAULT_SIZE = 400
_TRIES_PER_QUESTION = 60
"""How many draws from a procedural data set may fail (duplicate, no match) for each question asked for."""


@dataclass(frozen=True)
class QuestionPool:
    """All distinct questions of some specs, every one in the split of its twins.

    Attributes:
        questions: in a fixed order.
        duplicates: questions left out because the same ask came before.
        twins_removed: questions left out because a twin came before in a source with another fixed split.
        broken: what was wrong with each line of a file that was left out.
        answer_tokens: most tokens of a written answer, for each task whose source says so.
    """

    questions: tuple[Question, ...]
    duplicates: int
    twins_removed: int
    broken: tuple[str, ...]
    answer_tokens: Mapping[str, int]

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
    total, answer_tokens = 0, dict[str, int]()
    for spec in [entry for text in specs for entry in parse_spec(text)]:
        for question in _questions_of(spec, broken):
            total += 1
            if spec.max_new_tokens is not None:
                answer_tokens[question.task] = spec.max_new_tokens
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
    twins = len(distinct) - len(kept)
    return QuestionPool(tuple(kept), total - len(distinct), twins, tuple(broken or ()), answer_tokens)


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
    if spec.verifier is not None:
        VERIFIERS.get(spec.verifier)
    kind, _, name = spec.source.partition(":")
    found = SOURCES.get(kind)(spec, name)
    return _from_records(spec, found, broken) if isinstance(found, Records) else found


@SOURCES.register("rg")
def _from_reasoning_gym(spec: QuestionSpec, name: str) -> Iterator[Question]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of a package that it imports, when that is compiled
        import reasoning_gym
        from reasoning_gym.factory import DATASETS

    if name not in DATASETS:
        raise UnknownNameError("reasoning-gym task", name, DATASETS)
    size = spec.size or _DEFAULT_SIZE
    tries = size * _TRIES_PER_QUESTION
    try:
        options = _level_options(name, spec.level) | spec.options
        dataset = reasoning_gym.create_dataset(name, **options | {"seed": spec.seed, "size": tries})
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
            difficulty="" if spec.level is None else f"level {spec.level}",
            entry=entry,
        )
        if len(seen) == size:
            return


def _level_options(name: str, level: int | None) -> dict[str, Any]:
    """The options of a level of a data set's own curriculum.

    Raises:
        ConfigError: if reasoning-gym has no curriculum for the data set.
    """
    from reasoning_gym.factory import create_curriculum, has_curriculum

    if level is None:
        return {}
    if not has_curriculum(name):
        raise ConfigError(f"rg:{name} has no curriculum, so no level {level}; leave out 'level' and give 'options'.")
    curriculum = create_curriculum(name)
    curriculum.set_global_level(level)
    return asdict(curriculum.generate_configuration())


@SOURCES.register("jsonl")
def _from_json_lines(spec: QuestionSpec, name: str) -> Records:
    path = Path(name).expanduser()
    return Records(path.parent.name, _json_lines(path))


@SOURCES.register("hub")
def _from_hub(spec: QuestionSpec, name: str) -> Records:
    return Records(spec.subset or name.rpartition("/")[2], _hub_records(spec, name))


@SOURCES.register("wheel")
def _from_wheel(spec: QuestionSpec, name: str) -> Records:
    return Records(Path(name).parent.name, _wheel_records(name))


def _json_lines(path: Path) -> Iterator[Record]:
    if not path.is_file():
        raise QuestionFileError(f"{path}: there is no such file.")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield f"{path}:{number}", line


def _hub_records(spec: QuestionSpec, name: str) -> Iterator[Record]:
    """The rows of a hub data set, or of a local folder that holds one.

    Raises:
        ConfigError: if the library is missing, or the data set cannot be loaded.
    """
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(f"hub:{name} needs the package datasets; pip install 'polar-env[hub]'.") from error
    try:
        rows = datasets.load_dataset(name, spec.subset, split=spec.part)
    except Exception as error:  # the library raises of many kinds: no network, no such name, subset or split
        raise ConfigError(f"hub:{name} (subset {spec.subset}, part {spec.part}): {error}") from error
    for number, row in enumerate(rows):
        yield f"hub:{name}[{number}]", row


def _wheel_records(name: str) -> Iterator[Record]:
    """The rows of an arrow file in a wheel of the package registry."""
    import pyarrow as pa

    path = wheel_member(*name.split("/", 1))
    with pa.memory_map(str(path)) as file:
        for batch in pa.ipc.open_stream(file):
            for number, row in enumerate(batch.to_pylist()):
                yield f"wheel:{name}[{number}]", row


def _from_records(spec: QuestionSpec, found: Records, broken: list[str] | None) -> Iterator[Question]:
    taken = 0
    for where, record in found.records:
        if taken == spec.size:
            break
        try:
            fields = record_of_line(record) if isinstance(record, bytes) else record
            question = question_of(fields, spec.fields, spec.task, found.task)
        except (QuestionError, ValueError) as error:
            problem = f"{where}: {error}"
            if broken is None:
                mend = "Mend the line, or pass --skip-bad to leave such lines out and count them."
                raise QuestionFileError(f"{problem} {mend}") from error
            broken.append(problem)
            continue
        if spec.match is None or re.fullmatch(spec.match, question.text):
            taken += 1
            yield replace(question, verifier=spec.verifier or question.verifier, split=spec.split or question.split)
