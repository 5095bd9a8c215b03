"""Accuracy at equal cost: the accuracy-cost frontier of one family of methods beside that of another.

A family's frontier says, for each cost, what its methods reach at that cost or less; costs between two methods are
reached by giving some questions to one and the rest to the other (a mixture, as the cost-quality hull of RouterBench).

Letters: ``M`` methods, ``Q`` questions, ``R`` resamples, ``G`` costs of a grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.statistics import Estimate

__all__ = ["Family", "frontier", "gap"]

_GRID = 33
_RESAMPLES = 2_000
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Family:
    """Methods measured on the same questions.

    Attributes:
        costs: executed layers / D of each method and question, ``[M, Q]``.
        right: 1 where the answer is right, ``[M, Q]``.
    """

    costs: Array
    right: Array


def frontier(costs: Array, accuracy: Array, at: Array) -> Array:
    """The best accuracy of a mixture of methods whose mean cost is no larger than given.

    Args:
        costs: mean cost of each method, ``[..., M]``.
        accuracy: its share of right answers, ``[..., M]``.
        at: the costs asked for, ``[..., G]``.

    Returns:
        ``[..., G]``; minus infinity below the cheapest method.
    """
    cost, value, x = costs[..., None, :], accuracy[..., None, :], at[..., None]  # [..., 1, M], [..., G, 1]
    single = np.where(cost <= x, value, -np.inf).max(-1)  # [..., G]
    low, high = (cost <= x)[..., :, None], (cost > x)[..., None, :]  # [..., G, M, 1], [..., G, 1, M]
    span = np.where(low & high, cost[..., None, :] - cost[..., :, None], 1.0)
    share = (x[..., None] - cost[..., :, None]) / span
    mixed = value[..., :, None] + share * (value[..., None, :] - value[..., :, None])
    best: Array = np.maximum(single, np.where(low & high, mixed, -np.inf).max((-1, -2)))
    return best


def gap(family: Family, base: Family, seed: int = 0) -> Estimate:
    """Mean vertical distance between two frontiers, with a percentile bootstrap over questions.

    It is taken over the costs from the cheapest to the dearest method of the first family, as far as the base has any
    method as cheap; a family of one method is compared at its own cost.

    Args:
        family: the methods in question.
        base: what they are compared with, on the same questions.
        seed: of the resampling.
    """
    questions, ours = family.right.shape[1], len(family.costs)
    columns = np.vstack([family.costs, base.costs, family.right, base.right])  # [2 M, Q]
    # Questions that are alike in all methods are drawn together: the same distribution as drawing each of them.
    kinds, counts = np.unique(columns, axis=1, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(questions, counts / questions, size=_RESAMPLES)
    means = np.vstack([counts, drawn]) @ kinds.T / questions  # [R + 1, 2 M]
    costs, shares = np.split(means, 2, axis=1)
    our_costs, their_costs, our_shares, their_shares = (
        part for each in (costs, shares) for part in (each[:, :ours], each[:, ours:])
    )
    cheapest = np.maximum(our_costs.min(-1), their_costs.min(-1))
    dearest = np.maximum(our_costs.max(-1), cheapest)
    at = np.linspace(cheapest, dearest, _GRID, axis=-1)  # [R + 1, G]
    distances = (frontier(our_costs, our_shares, at) - frontier(their_costs, their_shares, at)).mean(-1)
    low, high = np.quantile(distances[1:], [0.025, 0.975])
    return Estimate(float(distances[0]), float(low), float(high), questions)
