"""The search over one question in its plainest form, to read beside the papers.

After CoLa (arXiv 2507.07996, section 3): the root is the identity program, and a child is chosen by
``R / v + c sqrt(ln V / v) - lambda * len / D``. It is slow on purpose: `agents.search.tree` does the same faster,
and the tests hold the two to the same numbers.

Letters: ``V`` visits of a node, ``v`` visits of an edge, ``R`` sum of an edge's rewards, ``D`` the model's depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from agents.base import seeded_rng
from agents.search.common import MAX_WALKS, Order, most_children, reward_of
from agents.search.config import MctsConfig
from agents.search.moves import make_moves
from agents.search.root import due_visits, gumbel_scores
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.runner import Verdict
from polar_env.traces.tree import Child, Node, State, Trace

__all__ = ["search_one"]


@dataclass
class _Edge:
    """Statistics of one move at one state; two states that lead to the same child keep an edge each."""

    child: State
    visits: int = 0
    total: float = 0.0


@dataclass
class _Node:
    untried: list[State] | None = None  # None before the first selection at the node
    allowed: int = 0
    edges: list[_Edge] = field(default_factory=list)
    visits: int = 0
    closed: bool = False  # nothing below is left to try


class _Tree:
    def __init__(self, question: Question, depth: int, config: MctsConfig, seed: int) -> None:
        self.question, self.depth, self.config = question, depth, config
        self.moves = make_moves(depth, config)
        self.order = Order(self.moves, config, seed, question.id)
        self.rng = seeded_rng(seed, question.id)
        self.verdicts: dict[Program, Verdict] = {}
        self.nodes = {self.moves.root: _Node()}
        self.best_reward = -math.inf

    def select(self) -> tuple[State, list[_Edge]] | None:
        """Walk to a program without a verdict; None if all walks end at programs with one."""
        for _ in range(MAX_WALKS):
            state, path = self.moves.root, list[_Edge]()
            while (program := self.moves.program(state)) in self.verdicts:
                edge = self.choose(state) if len(path) <= 2 * self.depth else None
                if edge is None:
                    break
                path.append(edge)
                state = edge.child
            if program not in self.verdicts:
                return state, path
            self.back_up(path, program)  # the verdict costs nothing: back it up, and walk again
            self.close(path)
        return None

    def choose(self, state: State) -> _Edge | None:
        """Choose the next edge at a state, and expand the node if a new child is due; None if no move is left."""
        node = self.nodes[state]
        if node.untried is None:
            children = self.moves.children(state)
            node.untried = [children[i] for i in self.order.indices(state, len(children))]
            node.allowed = len(node.untried)
        if state == self.moves.root and self.config.root_candidates:
            return self.choose_at_root(node)
        node.untried = [child for child in node.untried if not self.pruned(child)]
        if self.config.random_child and self.rng.random() < self.config.random_child:
            return self.choose_at_random(node)
        if node.untried and len(self.open_edges(node)) < most_children(node.visits, self.config):
            self.expand(node, 0)
        return max(self.open_edges(node), key=lambda edge: self.score(node, edge), default=None)

    def choose_at_random(self, node: _Node) -> _Edge | None:
        """Any open edge or untried move, with the same probability each."""
        assert node.untried is not None
        edges = self.open_edges(node)
        count = len(edges) + len(node.untried)
        if not count:
            return None
        index = int(self.rng.integers(count))
        return edges[index] if index < len(edges) else self.expand(node, index - len(edges))

    def choose_at_root(self, node: _Node) -> _Edge | None:
        """The edge that Gumbel noise and sequential halving choose."""
        while node.untried:
            self.expand(node, 0)
        due = due_visits(np.array([edge.visits for edge in node.edges]), self.config.simulations)
        edges = self.open_edges(node)
        if not edges:
            return None
        noise = np.array([self.order.root_noise[node.edges.index(edge)] for edge in edges])
        visits, totals = np.array([edge.visits for edge in edges]), np.array([edge.total for edge in edges])
        return edges[int(gumbel_scores(visits, totals, noise, due).argmax())]

    def expand(self, node: _Node, index: int) -> _Edge:
        """Give a node an edge for one of its untried moves."""
        assert node.untried is not None
        edge = _Edge(node.untried.pop(index))
        node.edges.append(edge)
        self.nodes.setdefault(edge.child, _Node())
        return edge

    def open_edges(self, node: _Node) -> list[_Edge]:
        return [e for e in node.edges if not self.nodes[e.child].closed and not self.pruned(e.child)]

    def close(self, path: list[_Edge]) -> None:
        """Close the last node of a path and then its ancestors on the path, as long as nothing is left to try there."""
        for state in [*(edge.child for edge in reversed(path)), self.moves.root]:
            node = self.nodes[state]
            if node.untried is None or node.untried or self.open_edges(node):
                break
            node.closed = True

    def pruned(self, state: State) -> bool:
        """Whether no program from a state on can have a larger reward than the best right program."""
        least = self.moves.least_layers(state, evaluated=self.moves.program(state) in self.verdicts)
        return self.config.prune and 1.0 - self.config.layer_cost * (least / self.depth) <= self.best_reward

    def score(self, node: _Node, edge: _Edge) -> float:
        if edge.visits == 0:
            return math.inf
        explore = self.config.exploration * math.sqrt(math.log(max(1, node.visits)) / edge.visits)
        length = self.moves.program(edge.child).cost(self.depth)
        return edge.total / edge.visits + explore - self.config.length_penalty * length

    def back_up(self, path: list[_Edge], program: Program) -> None:
        """Add a program's reward to every edge of the path."""
        reward = reward_of(self.question, self.verdicts[program], program, self.depth, self.config)
        if self.verdicts[program].right:
            self.best_reward = max(self.best_reward, reward)
        self.nodes[self.moves.root].visits += 1
        for edge in path:
            edge.visits += 1
            edge.total += reward
            self.nodes[edge.child].visits += 1


def search_one(
    question: Question, depth: int, evaluate: Callable[[Program], Verdict], config: MctsConfig, seed: int = 0
) -> Trace:
    """Search one question, one program after the other.

    Args:
        question: the question.
        depth: the model's depth.
        evaluate: returns a program's verdict.
        config: the settings; ``rows`` is not used.
        seed: seeds the search, together with the question's id.
    """
    tree = _Tree(question, depth, config, seed)
    while len(tree.verdicts) <= config.simulations and (leaf := tree.select()) is not None:
        state, path = leaf
        program = tree.moves.program(state)
        tree.verdicts[program] = evaluate(program)
        tree.back_up(path, program)
    nodes = tuple(
        Node(
            state,
            node.visits,
            node.allowed,
            tuple(Child(e.child, e.visits, e.total / e.visits if e.visits else 0.0) for e in node.edges),
        )
        for state, node in tree.nodes.items()
    )
    visits: dict[Program, int] = {}
    for node in nodes:
        program = tree.moves.program(node.state)
        visits[program] = visits.get(program, 0) + node.visits
    return Trace(question, depth, tree.verdicts, nodes, visits)
