"""What a user could type: a question without its answer."""

from __future__ import annotations

import ast
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property

from polar_env.errors import QuestionError

__all__ = ["Ask", "expression_in"]

_EXPRESSION = re.compile(r"[-+(]*\d(?:[-+*/()\d\s.]*[\d)])?")
"""Numbers, signs and brackets inside a text."""


def expression_in(text: str) -> str | None:
    """The arithmetic expression inside a text; None where there is none, or several."""
    spans = [match[0].strip() for match in _EXPRESSION.finditer(text)]
    expressions = [span for span in spans if _is_operation(span)]
    return expressions[0] if len(expressions) == 1 else None


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
        """An ask from a typed text; an arithmetic expression inside the text becomes its equation."""
        expression = expression_in(text)
        return cls(text, task, f"{expression} =" if expression else None, choices)

    @cached_property
    def id(self) -> str:
        """16 hex digits of text, equation and choices; the same in every run and file, whatever the task is called."""
        content = "\x1f".join([self.text, self.equation or "", *self.choices])
        return hashlib.sha256(content.encode()).hexdigest()[:16]
