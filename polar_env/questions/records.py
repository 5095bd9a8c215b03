"""From a record (a JSON line, a row of a data set) to a question.

A record of another form is described by Jinja2 expressions over its fields, so that a task needs no Python:

    fields: {question: goal, choices: "[sol1, sol2]", gold: label}
    fields: {question: question, answer: "answer.split('####')[1]"}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from jinja2 import StrictUndefined, TemplateError, Undefined
from jinja2.sandbox import SandboxedEnvironment
from pydantic import AfterValidator, model_validator

from polar_env.config import Config
from polar_env.errors import QuestionError
from polar_env.questions.ask import Ask
from polar_env.questions.question import Question

__all__ = ["Fields", "question_of", "record_of_line"]

_ENVIRONMENT = SandboxedEnvironment(undefined=StrictUndefined)


def _expression(text: str) -> str:
    try:
        _compiled(text)
    except TemplateError as error:
        raise ValueError(f"no expression ({error})") from error
    return text


Expression = Annotated[str, AfterValidator(_expression)]


class Fields(Config):
    """Expressions over the fields of a record."""

    question: Expression
    """The question's text."""
    answer: Expression | None = None
    """The gold answer of an open question."""
    choices: Expression | None = None
    """The list of choices."""
    gold: Expression | None = None
    """Index of the gold choice, from 0."""
    difficulty: Expression | None = None
    """How hard it is."""
    task: Expression | None = None
    """The task, where it differs from record to record, e.g. by level."""

    @model_validator(mode="after")
    def _open_or_choices(self) -> Fields:
        if (self.answer is None) != (self.choices is not None and self.gold is not None):
            raise ValueError("give 'answer' for open questions, or 'choices' and 'gold' for multiple choice")
        return self


def record_of_line(line: bytes) -> dict[str, Any]:
    """The object in a line of a JSON file.

    Raises:
        QuestionError: if there is none; ValueError if the line is no UTF-8.
    """
    try:
        record = json.loads(line.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise QuestionError(f"not JSON ({error.msg} at column {error.colno}).") from error
    if not isinstance(record, dict):
        raise QuestionError('not a JSON object; a line is {"question": .., "answer": ..}.')
    return record


def question_of(record: Mapping[str, Any], fields: Fields | None, task: str | None, default_task: str) -> Question:
    """The question that a record holds.

    Args:
        record: the record; without ``fields`` ``{question, answer}`` or ``{question, choices, gold}``, with ``task``
            and ``difficulty`` or ``level`` where it has them.
        fields: expressions over its fields.
        task: the task; by default the record's own, or ``default_task``.
        default_task: see ``task``.

    Raises:
        QuestionError: if something is missing or of the wrong type, or no choice is the gold one.
    """
    if fields is not None:
        record = {
            name: _value(text, record) for name, text in fields.model_dump().items() if text is not None
        }  # fmt: skip
    text = _field(record, "question", str)
    choices: tuple[str, ...] = ()
    if "choices" in record:
        choices = tuple(str(choice) for choice in _field(record, "choices", (list, tuple)))
        gold = _gold(record)
        if not 0 <= gold < len(choices):
            raise QuestionError(f"field 'gold' is {gold}, but there are {len(choices)} choices (0-based).")
        answer = choices[gold]
    else:
        answer = str(_field(record, "answer", (str, int, float)))
    return Question(
        Ask.typed(text, task or str(record.get("task") or default_task), choices),
        answer,
        verifier="choice" if choices else "math",
        difficulty=str(record.get("difficulty", record.get("level", ""))),
    )


def _gold(record: Mapping[str, Any]) -> int:
    """The index of the gold choice; some data sets write it as text."""
    gold = _field(record, "gold", (int, str))
    if isinstance(gold, str) and not gold.isdigit():
        raise QuestionError(f"field 'gold' is {gold!r}; expected is the index of the right choice, from 0.")
    return int(gold)


def _field(record: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    if name not in record:
        raise QuestionError(f"field '{name}' is missing; the line has {', '.join(map(repr, record)) or 'no fields'}.")
    if not isinstance(record[name], kind) or isinstance(record[name], bool):
        raise QuestionError(f"field '{name}' is {record[name]!r}, which is of the wrong type.")
    return record[name]


@cache
def _compiled(text: str) -> Any:
    return _ENVIRONMENT.compile_expression(text, undefined_to_none=False)


def _value(text: str, record: Mapping[str, Any]) -> Any:
    try:
        value = _compiled(text)(**record)
        if isinstance(value, Undefined):
            str(value)  # raises, and says what is undefined
        return value.strip() if isinstance(value, str) else value
    except Exception as error:  # whatever an expression may raise on a record that it does not fit
        raise QuestionError(
            f"the expression {text!r} fails ({error}); the record has {', '.join(map(repr, record))}."
        ) from error
