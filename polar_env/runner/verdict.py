"""What a program made of a question."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NO_CHANCE", "Verdict"]

NO_CHANCE = -1000.0
"""Log-probability in nats of a program that makes no numbers: finite, so that means over programs stay so, too."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a program made of a question.

    Attributes:
        right: whether the program's greedy answer is the gold one.
        log_prob: log-probability of the gold answer in nats (mean per token for multiple choice).
        answer_tokens: token ids of the answer: for an open question what greedy decoding writes up to the first token
            that is not the gold answer's, for multiple choice the likeliest choice; empty where it was not kept.
    """

    right: bool
    log_prob: float
    answer_tokens: tuple[int, ...] = ()
