"""What `agents.search.reference` and `agents.search.tree` share, so that they are equal to the last bit: the random
order of moves, the reward of a program, and the rule of progressive widening.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from agents.base import seeded_rng
from agents.search.config import MctsConfig
from agents.search.moves import Moves
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.runner import Verdict
from polar_env.traces.tree import State

__all__ = ["MAX_WALKS", "Order", "most_children", "reward_of"]

MAX_WALKS = 256
"""A search is exhausted after so many walks in a row that end at a program with a verdict."""


class Order:
    """The order in which one question's search tries the children of a state, drawn once.

    Args:
        moves: the moves.
        config: says whether all questions share the order, and how many candidates the root has.
        seed: the seed of the search.
        question_id: the id of the question.
    """

    def __init__(self, moves: Moves, config: MctsConfig, seed: int, question_id: str) -> None:
        self.moves, self.config = moves, config
        self.seeds = (seed,) if config.shared_edits else (seed, question_id)

    def indices(self, state: State, count: int) -> list[int]:
        """The order in which a search tries the children of a state, as indices of the children.

        Args:
            state: the state.
            count: how many children it has.

        Returns:
            All ``count`` indices; at a root with Gumbel noise only those of the candidates.
        """
        if state == self.moves.root and self.config.root_candidates:
            best = np.argsort(-self._gumbels(count), kind="stable")[: self.config.root_candidates]
            return [int(i) for i in best]
        order = list(_permutation(self.seeds, state, count))
        if self.config.moves == "construction" and order:  # the normal pass first: its program has a verdict
            order.remove(0)
            order.insert(0, 0)
        return order

    @cached_property
    def root_noise(self) -> NDArray[np.float64]:
        """Gumbel noise of the root's candidates, ``[root_candidates]``, the largest first; all have the same prior."""
        noise = -np.sort(-self._gumbels(len(self.moves.children(self.moves.root))))
        return noise[: self.config.root_candidates]

    def _gumbels(self, count: int) -> NDArray[np.float64]:
        return seeded_rng(*self.seeds, "root").gumbel(size=count)


@lru_cache(maxsize=512)  # with shared edits all trees draw the same orders
def _permutation(seeds: tuple[object, ...], state: State, count: int) -> tuple[int, ...]:
    return tuple(seeded_rng(*seeds, state).permutation(count).tolist())


def reward_of(question: Question, verdict: Verdict, program: Program, depth: int, config: MctsConfig) -> float:
    """The reward of a program: 1 if it is right, else the partial credit, minus the layer cost.

    A wrong answer to an open question earns partial credit for the tokens of the gold answer that come before the first
    wrong one.
    """
    earned = float(verdict.right)
    if not verdict.right and not question.choices:
        right_tokens = max(0, len(verdict.answer_tokens) - 1)
        earned = config.partial_credit * right_tokens / (right_tokens + 1)
    return earned - config.layer_cost * program.cost(depth)


def most_children(visits: int, config: MctsConfig) -> float:
    """Progressive widening: a node with fewer open children than this expands one of its untried moves.

    Args:
        visits: visit count of the node.
        config: the settings.
    """
    return math.inf if config.widening is None else max(1, math.ceil(config.widening * math.sqrt(visits)))
