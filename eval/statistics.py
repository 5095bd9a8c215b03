"""Intervals and tests for shares and paired differences (protocol: pass@1, 95 %)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests

__all__ = [
    "FEWEST_SEEDS",
    "Estimate",
    "discordant",
    "holm",
    "interquartile_mean",
    "mcnemar",
    "mean",
    "paired_difference",
    "pooled",
    "share",
    "smallest_difference",
]

FEWEST_SEEDS = 5
"""Seeds below which there is no interval over seeds."""
_RESAMPLES = 10_000
_RESAMPLES_OF_POOLS = 1_000


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, and the number of questions behind it."""

    value: float
    low: float
    high: float
    count: int = 0

    def percent(self, sign: bool = False) -> str:
        """As text in percent, e.g. ``39.1 [35.4, 42.8]``; without an interval that is not a number."""
        form = "+.1f" if sign else ".1f"
        if math.isnan(self.low):
            return f"{100 * self.value:{form}}"
        return f"{100 * self.value:{form}} [{100 * self.low:{form}}, {100 * self.high:{form}}]"


def share(right: Sequence[bool] | NDArray[np.bool_]) -> Estimate:
    """A share with its Wilson interval.

    Raises:
        ValueError: for no observations at all.
    """
    if not len(right):
        raise ValueError("a share of no questions is not defined; give at least one question.")
    hits = int(np.sum(right))
    interval = stats.binomtest(hits, len(right)).proportion_ci(method="wilson")
    return Estimate(hits / len(right), float(interval.low), float(interval.high), len(right))


def mean(values: ArrayLike, seed: int = 0) -> Estimate:
    """A mean with a percentile bootstrap over questions.

    Args:
        values: one of each question, at least one.
        seed: of the resampling.
    """
    sample = np.asarray(values, float)
    value = float(sample.mean())
    if len(sample) < 2 or (sample == sample[0]).all():  # nothing varies, so nothing to resample
        return Estimate(value, value, value, len(sample))
    interval = stats.bootstrap(
        (sample,), np.mean, n_resamples=_RESAMPLES, method="percentile", rng=np.random.default_rng(seed), batch=500
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), len(sample))


def pooled(counts: NDArray[np.float64], statistic: Callable[[NDArray[np.float64]], float], seed: int = 0) -> Estimate:
    """A statistic of counts that are summed over questions, with a percentile bootstrap over questions.

    Args:
        counts: of each question, ``[Q, K]``, at least one question.
        statistic: of summed counts, ``[K]``.
        seed: of the resampling.
    """
    value, questions = statistic(counts.sum(0)), np.arange(len(counts))
    if len(counts) < 2:
        return Estimate(value, value, value, len(counts))
    interval = stats.bootstrap(
        (questions,), lambda drawn: statistic(counts[drawn].sum(0)), n_resamples=_RESAMPLES_OF_POOLS, vectorized=False,
        method="percentile", rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Estimate(value, float(interval.low), float(interval.high), len(counts))


def paired_difference(right: Sequence[bool], base: Sequence[bool], seed: int = 0) -> Estimate:
    """Mean difference of verdicts on the same questions, with a percentile bootstrap over questions.

    Differences are +1, 0 and -1, so a resample is a multinomial draw of how often each occurs: the very distribution of
    resampled questions, without drawing each of them.

    Args:
        right: verdicts of a method, at least one.
        base: verdicts of the baseline, in the same order.
        seed: of the resampling.
    """
    won, lost = discordant(right, base)
    questions = len(right)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(questions, np.array([won, lost, questions - won - lost]) / questions, size=_RESAMPLES)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / questions, [0.025, 0.975])
    return Estimate((won - lost) / questions, float(low), float(high), questions)


def mcnemar(right: Sequence[bool], base: Sequence[bool]) -> float:
    """McNemar's exact test, two-sided: the p-value of the discordant pairs under even odds."""
    won, lost = discordant(right, base)
    return float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0


def discordant(right: Sequence[bool], base: Sequence[bool]) -> tuple[int, int]:
    """On how many questions only the method is right, and on how many only the baseline."""
    ours, theirs = np.asarray(right, bool), np.asarray(base, bool)
    return int(np.sum(ours & ~theirs)), int(np.sum(~ours & theirs))


def smallest_difference(discordant: int, questions: int, level: float = 0.05, power: float = 0.8) -> float:
    """The smallest paired difference of two shares that so many questions show in most evaluations.

    Connor, R. J. (1987), Sample size for testing differences in proportions for the paired-sample design, Biometrics
    43, 207-211, solved for the difference; never less than the six discordant pairs of one kind without which no exact
    test at 5 % can reject.

    Args:
        discordant: questions on which the two verdicts differ.
        questions: all questions, at least one.
        level: two-sided level of the test.
        power: share of evaluations that show it.
    """
    z_level, z_power = stats.norm.ppf([1 - level / 2, power])

    def lacking(difference: float) -> float:
        differing = max(discordant / questions, difference)
        noise = z_level * differing**0.5 + z_power * max(differing - difference**2, 0.0) ** 0.5
        return float(noise - difference * questions**0.5)

    fewest = 1 + int(np.floor(np.log2(2 / level)))  # all of one kind: 2 * 0.5 ** n < level
    if lacking(1.0) > 0 or fewest >= questions:
        return 1.0
    return max(float(optimize.brentq(lacking, 1e-9, 1.0)), fewest / questions)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: each p-value as if the whole family had been tested at once."""
    return [float(p) for p in multipletests(p_values, method="holm")[1]] if len(p_values) else []


def interquartile_mean(values: ArrayLike, seed: int = 0) -> Estimate:
    """The mean of the middle half of some seeds' scores, with a percentile bootstrap over seeds (Agarwal et al. 2021).

    Of fewer than four it is the plain mean; of fewer than `FEWEST_SEEDS` the bootstrap says next to nothing, so the
    interval is not a number.

    Args:
        values: one of each seed, at least one.
        seed: of the resampling.
    """
    sample = np.asarray(values, float)

    def middle(drawn: NDArray[np.float64], axis: int = -1) -> Any:
        return stats.trim_mean(drawn, 0.25, axis=axis)

    value = float(middle(sample))
    if len(sample) < FEWEST_SEEDS:
        return Estimate(value, math.nan, math.nan, len(sample))
    if (sample == sample[0]).all():
        return Estimate(value, value, value, len(sample))
    interval = stats.bootstrap(
        (sample,), middle, n_resamples=_RESAMPLES, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high), len(sample))
