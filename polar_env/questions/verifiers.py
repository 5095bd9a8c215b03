"""Verifiers: is a generated answer the gold answer?"""

from __future__ import annotations

import logging
from collections.abc import Callable

from polar_env.errors import UnknownNameError
from polar_env.questions.question import Question, normalise

__all__ = ["VERIFIERS", "is_right"]


def exact(answer: str, question: Question) -> bool:
    """Equal after normalising case and blanks."""
    return normalise(answer) == normalise(question.answer)


def math(answer: str, question: Question) -> bool:
    """Mathematically equal, as math-verify judges it (``1,000`` is ``1000``, ``1/2`` is ``0.5``)."""
    from math_verify import parse, verify

    # Its timeouts need signals, which only a main thread has; it warns of each call without one.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    gold = parse(f"${question.answer}$", parsing_timeout=None)
    return bool(verify(gold, parse(answer, parsing_timeout=None), timeout_seconds=None))


def choice(answer: str, question: Question) -> bool:
    """The answer starts with the gold choice's text, or is its letter."""
    said = normalise(answer)
    letter = "abcdefghijklmnopqrstuvwxyz"[question.gold]
    return said.startswith(normalise(question.answer)) or said.rstrip(".)") == letter


VERIFIERS: dict[str, Callable[[str, Question], bool]] = {"exact": exact, "math": math, "choice": choice}


def is_right(answer: str, question: Question) -> bool:
    """Judge a generated answer by the question's own verifier.

    Raises:
        UnknownNameError: if the question names a verifier that does not exist.
    """
    if question.verifier not in VERIFIERS:
        raise UnknownNameError("verifier", question.verifier, VERIFIERS)
    return VERIFIERS[question.verifier](answer, question)
