"""A verifier: the last word of an answer counts, as in "The answer is 42."."""

from __future__ import annotations

from polar_env.questions import Question

__all__ = ["last_word"]


def last_word(answer: str, question: Question) -> bool:
    """The answer ends with the gold answer."""
    return answer.strip(" .\n").split(" ")[-1] == question.answer
