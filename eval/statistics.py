"""Intervals and tests for shares and paired differences (protocol: pass@1, 95 %)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = ["Estimate", "mcnemar", "mean", "paired_difference", "pooled", "share"]

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
        """As text in percent, e.g. ``39.1 [35.4, 42.8]``."""
        form = "+.1f" if sign else ".1f"
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

    Args:
        right: verdicts of a method.
        base: verdicts of the baseline, in the same order.
        seed: of the resampling.
    """
    return mean(np.asarray(right, float) - np.asarray(base, float), seed)


def mcnemar(right: Sequence[bool], base: Sequence[bool]) -> float:
    """McNemar's exact test, two-sided: the p-value of the discordant pairs under even odds."""
    won = int(np.sum(np.asarray(right, bool) & ~np.asarray(base, bool)))
    lost = int(np.sum(~np.asarray(right, bool) & np.asarray(base, bool)))
    return float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0
