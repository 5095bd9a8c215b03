"""A program's answer to an ask, as its user gets it: written by greedy decoding, or the likeliest choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polar_env.runner.verdict import NO_CHANCE

if TYPE_CHECKING:
    from polar_env.runner.decoding import Generation
    from polar_env.runner.readout import CandidateScore

__all__ = ["NO_ANSWER", "Answer", "of_choices", "of_generation", "of_means", "of_tokens"]


@dataclass(frozen=True)
class Answer:
    """What a program answers.

    Attributes:
        text: the answer; of a multiple-choice ask the choice.
        confidence: the LLM's own, between 0 and 1: for a written answer the geometric mean of its tokens'
            probabilities, for a choice its share among all choices.
        log_prob: log-probability of the answer in nats.
        tokens: tokens written; 0 for a choice.
        choice_log_probs: log-probability of each choice in nats; empty where there are none.
        choice_means: the same, per token; the largest of them is the answer.
    """

    text: str
    confidence: float
    log_prob: float
    tokens: int = 0
    choice_log_probs: tuple[float, ...] = ()
    choice_means: tuple[float, ...] = ()


NO_ANSWER = Answer("", 0.0, NO_CHANCE)
"""Of a program that makes no numbers."""


def of_generation(written: Generation) -> Answer:
    """The answer that was written."""
    return of_tokens(written.text, written.log_probs)


def of_tokens(text: str, log_probs: Sequence[float]) -> Answer:
    """A written answer, from its tokens' log-probabilities in nats."""
    each = np.asarray(log_probs)
    return Answer(text.strip(), float(np.exp(each.mean())), float(each.sum()), tokens=len(each))


def of_means(choices: Sequence[str], means: Sequence[float]) -> Answer:
    """The likeliest choice, where only the log-probabilities per token are there."""
    chosen = int(np.argmax(means))
    return Answer(choices[chosen], float(_softmax(np.asarray(means))[chosen]), float("nan"), choice_means=tuple(means))


def of_choices(
    choices: Sequence[str], scores: Sequence[CandidateScore], temperature: float = 0.0, seed: int = 0
) -> Answer:
    """The choice whose tokens are likeliest on average, or a sample; none where a program made no numbers."""
    sums = np.array([each.log_probs.sum(dtype=np.float64) for each in scores])
    means = np.array([each.log_probs.mean(dtype=np.float64) for each in scores])
    if not np.isfinite(means).all():
        return NO_ANSWER
    chosen = int(means.argmax())
    if temperature:
        chosen = int(np.random.default_rng(seed).choice(len(choices), p=_softmax(means / temperature)))
    return Answer(
        choices[chosen],
        float(_softmax(means)[chosen]),
        float(sums[chosen]),
        choice_log_probs=tuple(sums.tolist()),
        choice_means=tuple(means.tolist()),
    )


def _softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import softmax  # slow to import, and a recorded world that is only played needs none

    return np.asarray(softmax(values))
