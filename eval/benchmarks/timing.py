"""Comparing two ways to do the same thing on a machine whose speed changes under one's hands."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

__all__ = ["best_seconds", "time_ratio"]


def _seconds_of(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def best_seconds(work: Callable[[], object], rounds: int) -> float:
    """The shortest of several calls, after one that warms up."""
    work()
    return min(_seconds_of(work) for _ in range(rounds))


def time_ratio(
    work: Callable[[], object], reference: Callable[[], object], seconds: float = 20.0, rounds: int = 3
) -> float:
    """How long ``work`` takes, as a multiple of ``reference``: the median over rounds that run both, in turned order.

    Args:
        work: what is measured.
        reference: what it is compared with.
        seconds: short work is repeated for about this long, after a round that warms up. Of work whose first round
            takes longer, that round counts, and one more in the other order is enough; one that takes five times as
            long stands alone, since what disturbs a moment is a small part of it.
        rounds: fewest rounds of short work.
    """
    first, took = _round(work, reference, turned=False)
    if took > 5 * seconds:
        return first
    if took > seconds:
        return median([first, _round(work, reference, turned=True)[0]])
    ratios: list[float] = []
    started = time.perf_counter()
    while len(ratios) < rounds or time.perf_counter() - started < seconds:
        ratios.append(_round(work, reference, turned=len(ratios) % 2 == 1)[0])
    return median(ratios)


def _round(work: Callable[[], object], reference: Callable[[], object], turned: bool) -> tuple[float, float]:
    """Time of work over the reference's, and the seconds of both; turned, the reference goes first."""
    if turned:
        theirs, ours = _seconds_of(reference), _seconds_of(work)
    else:
        ours, theirs = _seconds_of(work), _seconds_of(reference)
    return ours / theirs, ours + theirs
