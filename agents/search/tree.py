"""The search tree of one question: Monte Carlo tree search over programs, as the papers describe it.

One simulation selects a leaf, executes its program for a verdict, and backs the reward up along the path. The tree does
all but the execution: `agents.search.lockstep` executes the leaves of many trees together. The tests hold the tree to
`agents.search.reference`, the plain form of the same search, to the last bit.

Where a round takes several leaves of one tree, virtual loss (Chaslot et al. 2008, "Parallel Monte-Carlo tree search")
keeps them apart: until the round is over, each selected path counts as visited with a reward of -1.

Letters: ``V`` visits of a node, ``v`` visits of an edge, ``R`` sum of an edge's rewards, ``A`` edges of a node, ``D``
the model's depth.
"""

from __future__ import annotations

import math

import numpy as np

from agents.base import seeded_rng
from agents.search.common import MAX_WALKS, Order, most_children, reward_of
from agents.search.config import MctsConfig
from agents.search.moves import Moves
from agents.search.node import Edge, Leaf, TreeNode
from agents.search.root import due_visits, gumbel_scores
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.runner import Verdict
from polar_env.traces.tree import Child, Node, State, Trace

__all__ = ["Tree"]


class Tree:
    """The search tree of one question.

    Args:
        question: the question.
        moves: the moves; trees may share one object, so that they share its caches.
        config: the settings.
        seed: seeds the tree, together with the question's id.

    Attributes:
        verdicts: the verdict of every program evaluated, in order; the identity comes first.
        nodes: the node of every state reached, in order; the root comes first.
        best_reward: the reward of the best right program so far.
        exhausted: whether the last selection reached no leaf.
    """

    def __init__(self, question: Question, moves: Moves, config: MctsConfig, seed: int) -> None:
        self.question, self.moves, self.config = question, moves, config
        self.order = Order(moves, config, seed, question.id)
        self.rng = seeded_rng(seed, question.id)
        self.verdicts: dict[Program, Verdict] = {}
        self.nodes: dict[State, TreeNode] = {}
        self.root = self._node(moves.root)
        self.best_reward = -math.inf
        self.exhausted = False

    @property
    def simulations_left(self) -> int:
        """How many programs the tree may still evaluate; the identity is not counted as a simulation."""
        return 0 if self.exhausted else self.config.simulations + 1 - len(self.verdicts)

    def leaves(self, count: int) -> list[Leaf]:
        """Select leaves with different programs, for one round.

        Args:
            count: select at most so many; the identity is always evaluated in a round of its own.
        """
        count = min(count, self.simulations_left)
        leaves: dict[Program, Leaf] = {}
        charged: list[Leaf] = []
        for _ in range(count + MAX_WALKS):
            leaf = self.select()
            if leaf is None:
                break
            leaves.setdefault(leaf.node.program, leaf)
            if not leaf.path or len(leaves) == count:
                break
            self._add_virtual_loss(leaf, 1)
            charged.append(leaf)
        for leaf in charged:
            self._add_virtual_loss(leaf, -1)
        self.exhausted = not leaves
        return list(leaves.values())

    def select(self) -> Leaf | None:
        """Walk from the root to a leaf; None if no walk reaches one.

        A walk may end at a program that has a verdict: because no move is left there, or because the walk is too long
        (edits can undo each other). Its reward costs nothing, so the tree backs it up and walks again.
        """
        for _ in range(MAX_WALKS):
            node, path = self.root, list[Edge]()
            while node.program in self.verdicts:
                edge = self.choose(node) if len(path) <= 2 * self.moves.depth else None
                if edge is None:
                    break
                path.append(edge)
                node = edge.child
            else:
                return Leaf(node, path)
            self.back_up(node, path)
            self.close(path)
        return None

    def choose(self, node: TreeNode) -> Edge | None:
        """Choose the next edge at a node, and expand the node if a new child is due; None if no move is left."""
        untried = node.untried
        if untried is None:
            untried = self.order.indices(node.state, len(self.moves.children(node.state)))
            node.untried, node.allowed = untried, len(untried)
        if node is self.root and self.config.root_candidates:
            return self._choose_candidate()
        if self.config.prune:
            children = self.moves.children(node.state)
            untried[:] = [i for i in untried if not self.pruned(children[i], self.moves.program(children[i]))]
        if self.config.random_child and self.rng.random() < self.config.random_child:
            return self._choose_random(node)
        open_edges = self.open_edges(node)
        if untried and len(open_edges) < most_children(node.visits, self.config):
            edge = self.expand(node, 0)
            if self._is_open(edge):  # the move may lead to a node that is closed already
                open_edges.append(edge)
        return self._choose_best(node, open_edges)

    def _choose_best(self, node: TreeNode, edges: list[Edge]) -> Edge | None:
        """The edge of largest ``R / v + c sqrt(ln V / v) - lambda * len / D``; infinite for an edge without visits."""
        for edge in edges:
            if not edge.visits:
                return edge
        if not edges:
            return None
        c, penalty, log_visits = self.config.exploration, self.config.length_penalty, math.log(max(1, node.visits))
        scores = [
            (edge.total - edge.losses) / edge.visits
            + c * math.sqrt(log_visits / edge.visits)
            - penalty * edge.child.cost
            for edge in edges
        ]
        return edges[scores.index(max(scores))]

    def _choose_random(self, node: TreeNode) -> Edge | None:
        """Any open edge or untried move, with the same probability each."""
        edges, untried = self.open_edges(node), len(node.untried or ())
        if not edges and not untried:
            return None
        index = int(self.rng.integers(len(edges) + untried))
        return edges[index] if index < len(edges) else self.expand(node, index - len(edges))

    def _choose_candidate(self) -> Edge | None:
        """The root's edge that Gumbel noise and sequential halving choose."""
        root = self.root
        while root.untried:
            self.expand(root, 0)
        edges = [i for i, edge in enumerate(root.edges) if self._is_open(edge)]
        if not edges:
            return None
        visits = np.array([edge.visits for edge in root.edges])  # [A]
        totals = np.array([edge.total - edge.losses for edge in root.edges])  # [A]
        due = due_visits(visits, self.config.simulations)
        scores = gumbel_scores(visits[edges], totals[edges], self.order.root_noise[edges], due)
        return root.edges[edges[int(scores.argmax())]]

    def expand(self, node: TreeNode, index: int) -> Edge:
        """Give a node an edge for one of its untried moves.

        Args:
            node: the node.
            index: which of ``node.untried``.
        """
        assert node.untried is not None
        edge = Edge(self._node(self.moves.children(node.state)[node.untried.pop(index)]))
        node.edges.append(edge)
        return edge

    def _node(self, state: State) -> TreeNode:
        """The node of a state; a new one if no path reached the state before."""
        node = self.nodes.get(state)
        if node is None:
            program = self.moves.program(state)
            node = self.nodes[state] = TreeNode(state, program, program.cost(self.moves.depth))
        return node

    def open_edges(self, node: TreeNode) -> list[Edge]:
        """The edges of a node that are worth a visit: they are neither closed nor pruned."""
        if self.config.prune:
            return [edge for edge in node.edges if self._is_open(edge)]
        return [edge for edge in node.edges if not edge.child.closed]

    def _is_open(self, edge: Edge) -> bool:
        child = edge.child
        return not child.closed and not (self.config.prune and self.pruned(child.state, child.program))

    def pruned(self, state: State, program: Program) -> bool:
        """Whether no program from a state on can have a larger reward than the best right program.

        Args:
            state: the state.
            program: the program of the state.
        """
        least = self.moves.least_layers(state, evaluated=program in self.verdicts)
        return 1.0 - self.config.layer_cost * (least / self.moves.depth) <= self.best_reward

    def receive(self, leaf: Leaf, verdict: Verdict) -> None:
        """Record the verdict of a leaf's program, and back its reward up."""
        self.verdicts[leaf.node.program] = verdict
        reward = self.back_up(leaf.node, leaf.path)
        if verdict.right:
            self.best_reward = max(self.best_reward, reward)

    def back_up(self, node: TreeNode, path: list[Edge]) -> float:
        """Add the reward of a node's program to every edge of the path to the node; returns the reward."""
        verdict, program = self.verdicts[node.program], node.program
        reward = reward_of(self.question, verdict, program, self.moves.depth, self.config)
        self.root.visits += 1
        for edge in path:
            edge.visits += 1
            edge.total += reward
            edge.child.visits += 1
        return reward

    def _add_virtual_loss(self, leaf: Leaf, count: int) -> None:
        """Count the path to a leaf as visited and lost, ``count`` times; -1 undoes it."""
        self.root.visits += count
        for edge in leaf.path:
            edge.visits += count
            edge.losses += count
            edge.child.visits += count

    def close(self, path: list[Edge]) -> None:
        """Close the last node of a path and then its ancestors on the path, as long as nothing is left to try there."""
        for node in [*(edge.child for edge in reversed(path)), self.root]:
            if node.untried is None or node.untried or self.open_edges(node):
                break
            node.closed = True

    def trace(self) -> Trace:
        """The programs, verdicts and statistics so far."""
        visits: dict[Program, int] = {}
        for node in self.nodes.values():
            visits[node.program] = visits.get(node.program, 0) + node.visits
        nodes = tuple(Node(n.state, n.visits, n.allowed, _children(n)) for n in self.nodes.values())
        return Trace(self.question, self.moves.depth, self.verdicts, nodes, visits)


def _children(node: TreeNode) -> tuple[Child, ...]:
    return tuple(Child(e.child.state, e.visits, e.total / e.visits if e.visits else 0.0) for e in node.edges)
