"""Nodes and edges of a search tree, with their statistics.

Letters: ``V`` visits of a node, ``v`` visits of an edge, ``R`` sum of an edge's rewards, ``D`` the model's depth.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from polar_env.program import Program
from polar_env.traces.tree import State

__all__ = ["Edge", "Leaf", "TreeNode"]


@dataclass(slots=True, eq=False)
class Edge:
    """One move at one node. Two nodes that lead to the same child keep an edge each.

    Attributes:
        child: the node that the move leads to.
        visits: ``v``, how many paths took the edge.
        total: ``R``, the sum of their rewards.
        losses: how many of the visits are virtual losses, each with a reward of -1 that ``total`` does not hold.
    """

    child: TreeNode
    visits: int = 0
    total: float = 0.0
    losses: int = 0


@dataclass(slots=True, eq=False)
class TreeNode:
    """A state in a tree.

    Attributes:
        state: the state; a tree has one node for it, whichever paths lead there.
        program: the program that is evaluated at the state.
        cost: executed layers of the program / D.
        visits: ``V``, how many paths reached the node.
        edges: the moves that were tried, in that order.
        untried: the other moves, first the one to try first, as indices of the state's children; None before the first
            selection at the node.
        allowed: how many moves the node has, tried or not.
        closed: whether nothing below the node is left to try.
    """

    state: State
    program: Program
    cost: float
    visits: int = 0
    edges: list[Edge] = field(default_factory=list)
    untried: list[int] | None = None
    allowed: int = 0
    closed: bool = False


@dataclass(slots=True, frozen=True, eq=False)
class Leaf:
    """A node whose program has no verdict yet, and the path from the root to it.

    Attributes:
        node: the node.
        path: the edges, from the root on; empty for the root itself.
    """

    node: TreeNode
    path: list[Edge]
