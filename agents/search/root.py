"""The root by Gumbel noise and sequential halving (Danihelka et al. 2022, "Policy improvement by planning with
Gumbel"): a few candidates share the simulations, and each phase keeps the better half of them.

Letters: ``A`` candidates.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["considered_visits", "due_visits", "gumbel_scores"]

_VISIT_OFFSET, _VALUE_SCALE = 50.0, 1.0
"""Constants of the paper's monotone transform of values."""


@cache
def considered_visits(candidates: int, simulations: int) -> tuple[int, ...]:
    """Sequential halving as a table: for each simulation, the visit count of the candidate that it takes.

    Args:
        candidates: ``A``.
        simulations: length of the table.
    """
    if candidates <= 1:
        return tuple(range(simulations))
    phases = math.ceil(math.log2(candidates))
    left, visits = candidates, [0] * candidates
    table: list[int] = []
    while len(table) < simulations:
        each = max(1, simulations // (phases * left))
        for _ in range(each):
            table += visits[:left]
            visits = [count + 1 for count in visits[:left]]
        left = max(2, left // 2)
    return tuple(table[:simulations])


def gumbel_scores(
    visits: NDArray[np.int64], totals: NDArray[np.float64], noise: NDArray[np.float64], due: int
) -> NDArray[np.float64]:
    """The score of each candidate, ``[A]``; the simulation takes the largest, and minus infinity excludes a candidate.

    Args:
        visits: visit count of each open candidate, ``[A]``.
        totals: sum of the rewards of each, ``[A]``.
        noise: Gumbel noise plus the logarithm of the prior, ``[A]``.
        due: the visit count that a candidate must have; if none has it, no candidate is excluded.
    """
    values = totals / np.maximum(visits, 1)
    scores = noise + (_VISIT_OFFSET + visits.max()) * _VALUE_SCALE * values
    waiting = visits != due
    return np.where(waiting & ~waiting.all(), -np.inf, scores)


def due_visits(visits: NDArray[np.int64], simulations: int) -> int:
    """The visit count of the candidate that the next simulation takes.

    Args:
        visits: visit count of every candidate, ``[A]``.
        simulations: budget of the whole search, in programs.
    """
    table, done = considered_visits(len(visits), simulations), int(visits.sum())
    return table[done] if done < len(table) else int(visits.max())
