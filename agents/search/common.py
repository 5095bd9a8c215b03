"""What the reference and the batched search share, so that they can be equal to the last bit: what is drawn at random,
and what a program is worth.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from agents.fixed import seeded_rng
from agents.search.config import MctsConfig
from agents.search.moves import Moves, State
from polar_env.executor import Verdict
from polar_env.program import Program

__all__ = ["MAX_WALKS", "Order", "most_children", "reward_of"]

MAX_WALKS = 256
"""How many walks in a row may end at a known program before a search counts as exhausted."""


class Order:
    """The order in which one question's search tries the children of a state, drawn once.

    Args:
        moves: gives the children.
        config: whether all questions share the order, and how many candidates the root has.
        seed: of the search.
        question_id: the question.
    """

    def __init__(self, moves: Moves, config: MctsConfig, seed: int, question_id: str) -> None:
        self.moves, self.config = moves, config
        self.seeds = (seed,) if config.shared_edits else (seed, question_id)

    def children(self, state: State) -> list[State]:
        """All children of a state, the first to be tried first; at a root with Gumbel noise the candidates alone."""
        children = self.moves.children(state)
        if state == self.moves.root and self.config.root_candidates:
            noise = self._gumbels(len(children))
            return [children[i] for i in np.argsort(-noise, kind="stable")[: self.config.root_candidates]]
        order = seeded_rng(*self.seeds, state).permutation(len(children))
        if self.config.moves == "construction":  # the normal pass first: its verdict is known
            order = np.array([0, *order[order != 0]], np.int64)[: len(children)]
        return [children[i] for i in order]

    def root_noise(self, count: int) -> NDArray[np.float64]:
        """Gumbel noise of the root's candidates, the largest first; all have the same prior."""
        return -np.sort(-self._gumbels(len(self.moves.children(self.moves.root))))[:count]

    def _gumbels(self, count: int) -> NDArray[np.float64]:
        return seeded_rng(*self.seeds, "root").gumbel(size=count)


def reward_of(verdict: Verdict, program: Program, depth: int, config: MctsConfig) -> float:
    """The verdict minus the layer cost."""
    return float(verdict.right) - config.layer_cost * program.cost(depth)


def most_children(visits: int, config: MctsConfig) -> float:
    """How many open children a node tries to have after so many visits."""
    return math.inf if config.widening is None else max(1, math.ceil(config.widening * math.sqrt(visits)))
