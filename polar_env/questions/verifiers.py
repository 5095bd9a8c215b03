"""Verifiers: is a generated answer the gold answer?"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from polar_env.errors import QuestionError
from polar_env.questions.question import Question
from polar_env.questions.twins import normalise
from polar_env.registry import Registry

__all__ = ["VERIFIERS", "is_right", "is_right_in_any_form"]

_FULL_SCORE = 1.0
VERIFIERS: Registry[Callable[[str, Question], bool]] = Registry("verifier", "polar_env.verifiers")
"""Verifiers by name; packages add some."""


@VERIFIERS.register("exact")
def exact(answer: str, question: Question) -> bool:
    """Equal after normalising case and blanks."""
    return normalise(answer) == normalise(question.answer)


@VERIFIERS.register("math")
def math(answer: str, question: Question) -> bool:
    """Mathematically equal, as math-verify judges it (``1,000`` is ``1000``, ``1/2`` is ``0.5``)."""
    from math_verify import parse, verify

    # Its timeouts need signals, which only a main thread has; it warns of each call without one.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    gold = parse(f"${question.answer}$", parsing_timeout=None)
    return bool(verify(gold, parse(answer, parsing_timeout=None), timeout_seconds=None))


@VERIFIERS.register("choice")
def choice(answer: str, question: Question) -> bool:
    """The answer starts with the gold choice's text, or is its letter."""
    given = normalise(answer)
    letter = "abcdefghijklmnopqrstuvwxyz"[question.gold]
    return given.startswith(normalise(question.answer)) or given.rstrip(".)") == letter


@VERIFIERS.register("reasoning_gym")
def reasoning_gym(answer: str, question: Question) -> bool:
    """Full marks of the reasoning-gym task's own ``score_answer``; part marks are for answers that are not right."""
    if question.entry is None:
        raise QuestionError(f"question {question.text[:60]!r} has no reasoning-gym entry for its scorer.")
    score = _scorer(str(question.entry["metadata"]["source_dataset"]))
    return bool(score(answer.strip(), question.entry) >= _FULL_SCORE)


@cache
def _scorer(name: str) -> Callable[..., float]:
    from reasoning_gym import get_score_answer_fn

    scorer: Any = get_score_answer_fn(name)
    return scorer  # type: ignore[no-any-return]


def is_right(answer: str, question: Question) -> bool:
    """Judge a generated answer by the question's own verifier.

    Raises:
        UnknownNameError: if the question names a verifier that does not exist.
        QuestionError: if the verifier is reasoning-gym's scorer and the question has no entry for it.
    """
    return VERIFIERS.get(question.verifier)(answer, question)


def is_right_in_any_form(answer: str, question: Question) -> bool:
    """The lenient judgement: the answer is right, or holds the gold answer as a whole word or number, or its value.

    A gain that a strict verifier sees and this one does not is a repaired form of answer, not a better one.
    """
    gold, given = normalise(question.answer), normalise(answer)
    holds = re.search(rf"(?<![\w.]){re.escape(gold)}(?!\w|\.\d)", given) is not None
    return holds or is_right(answer, question) or math(answer, question)
