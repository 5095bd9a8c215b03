"""What a user could type: a question without its answer."""

from __future__ import annotations

import ast
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property

from polar_env.errors import QuestionError

__all__ = ["Ask", "equation_of"]

_EXPRESSION = re.compile(r"[-+(]*\d(?:[-+*/()\d\s.]*[\d)])?")
"""Numbers, signs and brackets inside a text."""


_PLAIN_WORDS = frozenset(
    re.findall(r"\w+", "what is the result value of calculate compute evaluate work out find solve please how much")
)
"""Words around an expression that ask for its value and nothing else."""
_WORD = re.compile(r"\w+|[^\w\s?.!,:]")


def equation_of(text: str) -> str | None:
    """The equation that a text asks to be continued, e.g. ``"4 + 3 ="`` for ``"What is 4 + 3?"``; None where it asks
    for anything beside the value of one arithmetic expression.
    """
    spans = [match[0].strip() for match in _EXPRESSION.finditer(text)]
    expressions = [span for span in spans if _is_operation(span)]
    if len(expressions) != 1:
        return None
    around = text.replace(expressions[0], " ", 1).lower()
    return f"{expressions[0]} =" if set(_WORD.findall(around)) - {"="} <= _PLAIN_WORDS else None


def _is_operation(text: str) -> bool:
    try:
        return isinstance(ast.parse(text, mode="eval").body, ast.BinOp)
    except SyntaxError:
        return False


@dataclass(frozen=True)
class Ask:
    """A question as it is asked. Agents, features, prompts and generation see an ask and nothing else.

    Attributes:
        text: the question as a person would ask it.
        task: the task or skill it belongs to; prompts and reports go by it.
        equation: the question as an equation to be continued, e.g. ``"4 + 3 ="``; None where there is none.
        choices: the choices of a multiple-choice question, else empty.
    """

    text: str
    task: str = "questions"
    equation: str | None = None
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise QuestionError(f"the question {self.text!r} is empty; write at least a word.")

    @classmethod
    def typed(cls, text: str, task: str = "questions", choices: tuple[str, ...] = ()) -> Ask:
        """An ask from its text alone; see `equation_of`."""
        return cls(text, task, None if choices else equation_of(text), choices)

    @cached_property
    def id(self) -> str:
        """16 hex digits of text, equation and choices; the same in every run and file, whatever the task is called."""
        content = "\x1f".join([self.text, self.equation or "", *self.choices])
        return hashlib.sha256(content.encode()).hexdigest()[:16]
