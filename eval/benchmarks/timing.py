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
        seconds: short work is repeated for about this long.
        rounds: fewest rounds.
    """
    work(), reference()
    ratios: list[float] = []
    started = time.perf_counter()
    while len(ratios) < rounds or time.perf_counter() - started < seconds:
        if len(ratios) % 2:
            theirs, ours = _seconds_of(reference), _seconds_of(work)
        else:
            ours, theirs = _seconds_of(work), _seconds_of(reference)
        ratios.append(ours / theirs)
    return median(ratios)
