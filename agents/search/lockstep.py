"""Many searches in lock step: a round takes leaves from all trees and executes their programs together, so that the
world gets full batches.

With one program of each tree a round (``rows 1``, or at least as many trees as rows), a tree does not depend on which
questions are searched beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agents.search.config import MctsConfig
from agents.search.moves import CachedMoves, make_moves
from agents.search.tree import Tree
from polar_env.questions import Question
from polar_env.traces.tree import Trace
from polar_env.worlds import World

__all__ = ["search"]


def search(
    world: World,
    questions: Sequence[Question],
    config: MctsConfig,
    seed: int = 0,
    on_round: Callable[[int], None] | None = None,
) -> list[Trace]:
    """Search some questions in lock step, until every tree has its simulations or has no leaf left.

    Args:
        world: executes programs; a recorded one keeps the search to what it holds.
        questions: one tree each.
        config: the settings.
        seed: seeds each tree, together with the id of its question.
        on_round: called after each round with the number of programs that it evaluated.

    Returns:
        One trace for each question, in the order of the questions.
    """
    moves = CachedMoves(make_moves(world.depth, config), world.programs)
    trees = [Tree(question, moves, config, seed) for question in questions]
    while growing := [tree for tree in trees if tree.simulations_left]:
        each = -(-config.rows // len(growing))  # programs of one tree, rounded up
        leaves = [(tree, leaf) for tree in growing for leaf in tree.leaves(each)]
        verdicts = world.verdicts([(tree.question, leaf.node.program) for tree, leaf in leaves])
        for (tree, leaf), verdict in zip(leaves, verdicts, strict=True):
            tree.receive(leaf, verdict)
        if on_round is not None and leaves:
            on_round(len(leaves))
    return [tree.trace() for tree in trees]
