"""Many searches in lock step: the same search as `agents.search.reference`, one new program of each question a round,
so that the world always gets full batches.

The statistics of all trees lie in flat arrays ``[B, N, A]``. With fewer questions than rows in a batch a tree gives
several programs at once, which virtual loss (Chaslot et al. 2008) keeps apart: until all are chosen, each counts as
evaluated, with a reward of -1. With one program a round a tree does not depend on which questions are searched beside
it.

Letters: ``B`` trees, ``N`` nodes of a tree, ``A`` edges of a node, ``V`` visits of a node, ``v`` visits of an edge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from agents.base import seeded_rng
from agents.search.common import MAX_WALKS, Order, most_children, reward_of
from agents.search.config import MctsConfig
from agents.search.moves import make_moves
from agents.search.root import due_visits, gumbel_scores
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.runner import Verdict
from polar_env.traces.tree import Child, Node, State, Trace
from polar_env.worlds import LiveWorld

__all__ = ["Search", "search"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class _Table:
    """Statistics of all trees, ``[B, N]`` for nodes and ``[B, N, A]`` for edges; grows as needed.

    Attributes:
        child: node that an edge leads to.
        visits, totals, virtual: of edges: visits, sums of rewards, losses that are only assumed.
        edges, node_visits: of nodes.
        cost, most, reward: of nodes: executed layers / D, the largest reward from there on, the reward of its program
            (NaN while it has no verdict).
        closed: of nodes: nothing below is left to be tried.
    """

    def __init__(self, trees: int) -> None:
        nodes, edges = 16, 4
        self.child = np.zeros((trees, nodes, edges), np.int64)
        self.visits = np.zeros((trees, nodes, edges), np.int64)
        self.virtual = np.zeros((trees, nodes, edges), np.int64)
        self.totals = np.zeros((trees, nodes, edges))
        self.edges = np.zeros((trees, nodes), np.int64)
        self.node_visits = np.zeros((trees, nodes), np.int64)
        self.cost, self.most = np.zeros((trees, nodes)), np.zeros((trees, nodes))
        self.reward = np.full((trees, nodes), np.nan)
        self.closed = np.zeros((trees, nodes), bool)

    def grow(self, nodes: int, edges: int) -> None:
        """Room for so many nodes and edges, at least."""
        _, most_nodes, most_edges = self.child.shape
        more = (max(0, nodes - most_nodes) and most_nodes, max(0, edges - most_edges) and most_edges)
        for name, array in vars(self).items() if any(more) else ():
            widths = ((0, 0), (0, more[0]), (0, more[1]))[: array.ndim]
            setattr(self, name, np.pad(array, widths, constant_values=np.nan if name == "reward" else 0))


@dataclass
class _Walk:
    """A way down one tree: the nodes come through, and the edge taken at each but the last."""

    tree: int
    nodes: list[int] = field(default_factory=lambda: [0])
    edges: list[int] = field(default_factory=list)


class Search:
    """The searches of some questions.

    Args:
        questions: one tree each.
        depth: the model's depth.
        config: the settings.
        seed: with a question's id it seeds that question's tree.
    """

    def __init__(self, questions: Sequence[Question], depth: int, config: MctsConfig, seed: int = 0) -> None:
        self.questions, self.depth, self.config = list(questions), depth, config
        self.moves = make_moves(depth, config)
        self.program = lru_cache(maxsize=1 << 14)(self.moves.program)
        self._children = lru_cache(maxsize=512)(self.moves.children)  # the trees keep indices: states are large
        self._orders = [Order(self.moves, config, seed, question.id) for question in questions]
        self._rngs = [seeded_rng(seed, question.id) for question in questions]
        self._verdicts: list[dict[Program, Verdict]] = [{} for _ in questions]
        self._states: list[list[State]] = [[] for _ in questions]
        self._index: list[dict[State, int]] = [{} for _ in questions]
        self._untried: list[dict[int, list[int]]] = [{} for _ in questions]  # of a node's children
        self._allowed: list[dict[int, int]] = [{} for _ in questions]
        self._nameless: list[dict[Program, list[int]]] = [{} for _ in questions]  # nodes that wait for a verdict
        self._best = np.full(len(self.questions), -np.inf)  # reward of the best right program
        self._exhausted = np.zeros(len(self.questions), bool)
        self._table = _Table(len(self.questions))
        for tree in range(len(self.questions)):
            self._node(tree, self.moves.root)

    @property
    def left(self) -> Ints:
        """Programs still to be evaluated for each tree, ``[B]``; the identity comes on top of the simulations."""
        known = np.array([len(verdicts) for verdicts in self._verdicts], np.int64)
        return np.where(self._exhausted, 0, self.config.simulations + 1 - known)

    def run(self, world: LiveWorld, on_round: Callable[[int], None] | None = None) -> None:
        """Search until every tree has its simulations or knows all programs that it can reach.

        Args:
            world: executes programs.
            on_round: called after each round with the number of programs evaluated in it.
        """
        while (left := self.left).any():
            growing = np.flatnonzero(left)
            leaves = self._leaves(growing, np.minimum(left[growing], -(-self.config.rows // len(growing))))
            programs = [self.program(self._states[walk.tree][walk.nodes[-1]]) for walk in leaves]
            asked = [self.questions[walk.tree] for walk in leaves]
            verdicts = world.verdicts(list(zip(asked, programs, strict=True)))
            for walk, program, verdict in zip(leaves, programs, verdicts, strict=True):
                self._take_in(walk.tree, program, verdict)
                self._update(walk)
            if on_round is not None and leaves:
                on_round(len(leaves))

    def traces(self) -> list[Trace]:
        """What was found so far, one for each question."""
        return [self._trace(tree) for tree in range(len(self.questions))]

    def _leaves(self, trees: Ints, counts: Ints) -> list[_Walk]:
        """Walks to up to ``counts`` different new programs of some trees; a tree that finds none is exhausted."""
        wanted = dict(zip(trees.tolist(), counts.tolist(), strict=True))
        found: dict[int, dict[Program, _Walk]] = {tree: {} for tree in wanted}
        charged: list[_Walk] = []
        tries = 0
        while wanted:
            tries += 1
            for tree, walk in self._select(list(wanted)).items():
                if walk is not None:
                    found[tree].setdefault(self.program(self._states[tree][walk.nodes[-1]]), walk)
                alone = walk is None or not walk.edges  # the identity stands alone in its round
                if alone or len(found[tree]) == wanted[tree] or tries == wanted[tree] + MAX_WALKS:
                    del wanted[tree]
                elif walk is not None:
                    charged.append(walk)
                    self._charge(walk, 1)
        for walk in charged:
            self._charge(walk, -1)
        for tree, walks in found.items():
            self._exhausted[tree] = not walks
        return [walk for walks in found.values() for walk in walks.values()]

    def _select(self, trees: list[int]) -> dict[int, _Walk | None]:
        """For each tree a walk to a program without a verdict, or None; all trees go down together."""
        ended: dict[int, _Walk | None] = {}
        walks = {tree: _Walk(tree) for tree in trees}
        tries = dict.fromkeys(trees, 0)
        active = trees
        while active:
            nodes = [walks[tree].nodes[-1] for tree in active]
            known = ~np.isnan(self._table.reward[active, nodes])
            ended |= {tree: walks[tree] for tree, there in zip(active, known, strict=True) if not there}
            going = [tree for tree, there in zip(active, known, strict=True) if there]
            for tree, edge in zip(going, self._choose([walks[tree] for tree in going]), strict=True):
                walk = walks[tree]
                if edge >= 0:
                    walk.nodes.append(int(self._table.child[tree, walk.nodes[-1], edge]))
                    walk.edges.append(edge)
                    continue
                self._update(walk)  # known programs are free: learn from the walk, and walk again
                self._close(walk)
                tries[tree] += 1
                walks[tree] = _Walk(tree)
                if tries[tree] == MAX_WALKS:
                    ended[tree] = None
            active = [tree for tree in going if tree not in ended]
        return {tree: ended[tree] for tree in trees}

    def _choose(self, walks: list[_Walk]) -> list[int]:
        """The next edge of each walk; -1 where there is none."""
        chosen = [self._choose_apart(walk) for walk in walks]
        rest = [i for i, edge in enumerate(chosen) if edge is None]
        for i, edge in zip(rest, self._best_edges([walks[i] for i in rest]), strict=True):
            chosen[i] = edge
        return [-1 if edge is None else edge for edge in chosen]

    def _choose_apart(self, walk: _Walk) -> int | None:
        """The edge where no score decides: at the end of a walk (-1), by sequential halving, at random; else None, and
        the node has got the child that is due.
        """
        tree, node = walk.tree, walk.nodes[-1]
        if len(walk.edges) > 2 * self.depth:  # edits can undo each other
            return -1
        untried = self._untried[tree].get(node)
        if untried is None:
            state = self._states[tree][node]
            untried = self._untried[tree][node] = self._orders[tree].indices(state, len(self._children(state)))
            self._allowed[tree][node] = len(untried)
        if self.config.root_candidates and node == 0:
            return self._choose_at_root(tree, untried)
        if self.config.prune:
            children = self._children(self._states[tree][node])
            untried[:] = [i for i in untried if self._most(tree, children[i]) > self._best[tree]]
        if self.config.random_child and self._rngs[tree].random() < self.config.random_child:
            return self._choose_at_random(tree, node, untried)
        if untried:
            most = most_children(int(self._table.node_visits[tree, node]), self.config)
            if len(self._open_edges(tree, node)) < most:
                self._add(tree, node, untried, 0)
        return None

    def _choose_at_random(self, tree: int, node: int, untried: list[int]) -> int:
        """Any child, tried or not; -1 where there is none."""
        edges = self._open_edges(tree, node)
        count = len(edges) + len(untried)
        if not count:
            return -1
        index = int(self._rngs[tree].integers(count))
        return int(edges[index]) if index < len(edges) else self._add(tree, node, untried, index - len(edges))

    def _choose_at_root(self, tree: int, untried: list[int]) -> int:
        while untried:
            self._add(tree, 0, untried, 0)
        table, edges = self._table, self._open_edges(tree, 0)
        if not edges.size:
            return -1
        due = due_visits(table.visits[tree, 0, : table.edges[tree, 0]], self.config.simulations)
        totals = table.totals[tree, 0, edges] - table.virtual[tree, 0, edges]
        scores = gumbel_scores(table.visits[tree, 0, edges], totals, self._orders[tree].root_noise[edges], due)
        return int(edges[scores.argmax()])

    def _open_edges(self, tree: int, node: int) -> Ints:
        """Edges of a node that are worth to be taken."""
        edges: Ints = np.arange(self._table.edges[tree, node])
        open_: Ints = edges[self._is_open(np.array([tree]), self._table.child[tree, node, edges])]
        return open_

    def _is_open(self, trees: Ints, nodes: Ints) -> NDArray[np.bool_]:
        """Whether something is left to be tried, and may be better than the best program found."""
        open_ = ~self._table.closed[trees, nodes]
        return open_ & (self._table.most[trees, nodes] > self._best[trees]) if self.config.prune else open_

    def _close(self, walk: _Walk) -> None:
        """Close the end of a walk and the nodes on its way, as far as nothing is left to be tried there."""
        for node in reversed(walk.nodes):
            untried = self._untried[walk.tree].get(node)
            if untried is None or untried or self._open_edges(walk.tree, node).size:
                break
            self._table.closed[walk.tree, node] = True

    def _best_edges(self, walks: list[_Walk]) -> list[int]:
        """For each walk the edge of largest ``R / v + c sqrt(ln V / v) - lambda * len / D``; -1 where there is none."""
        table, trees = self._table, np.array([walk.tree for walk in walks], np.int64)
        nodes = np.array([walk.nodes[-1] for walk in walks], np.int64)
        width = int(table.edges[trees, nodes].max(initial=0))
        if not width:
            return [-1] * len(walks)
        child, visits = table.child[trees, nodes, :width], table.visits[trees, nodes, :width]  # [B, A]
        totals = table.totals[trees, nodes, :width] - table.virtual[trees, nodes, :width]
        # One by one: a vectorised logarithm may differ from the reference's in the last bit.
        logs = np.array([math.log(max(1, count)) for count in table.node_visits[trees, nodes].tolist()])[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            explore = self.config.exploration * np.sqrt(logs / visits)
            scores = totals / visits + explore - self.config.length_penalty * table.cost[trees[:, None], child]
        scores = np.where(visits == 0, np.inf, scores)
        there = np.arange(width) < table.edges[trees, nodes][:, None]
        there &= self._is_open(trees[:, None], child)
        best = np.where(there, scores, -np.inf).argmax(1)
        return [int(edge) for edge in np.where(there.any(1), best, -1)]

    def _add(self, tree: int, node: int, untried: list[int], index: int) -> int:
        """Give a node one of its untried children; returns the edge."""
        edge = int(self._table.edges[tree, node])
        child = self._node(tree, self._children(self._states[tree][node])[untried.pop(index)])
        self._table.grow(0, edge + 1)
        self._table.child[tree, node, edge] = child
        self._table.edges[tree, node] = edge + 1
        return edge

    def _node(self, tree: int, state: State) -> int:
        """The node of a state, made if it is not there."""
        index = self._index[tree].get(state)
        if index is not None:
            return index
        index = self._index[tree][state] = len(self._states[tree])
        self._states[tree].append(state)
        self._table.grow(index + 1, 0)
        program = self.program(state)
        self._table.cost[tree, index] = program.cost(self.depth)
        self._table.most[tree, index] = self._most(tree, state)
        verdict = self._verdicts[tree].get(program)
        if verdict is None:
            self._nameless[tree].setdefault(program, []).append(index)
        else:
            self._table.reward[tree, index] = self._reward(tree, program, verdict)
        return index

    def _most(self, tree: int, state: State) -> float:
        """The largest reward that a new program from a state on can have."""
        least = self.moves.least_layers(state, self.program(state) in self._verdicts[tree])
        return 1.0 - self.config.layer_cost * (least / self.depth)

    def _take_in(self, tree: int, program: Program, verdict: Verdict) -> None:
        """Remember a verdict, and what it pays wherever the program stands."""
        self._verdicts[tree][program] = verdict
        reward = self._reward(tree, program, verdict)
        for node in self._nameless[tree].pop(program):
            self._table.reward[tree, node] = reward
            self._table.most[tree, node] = self._most(tree, self._states[tree][node])
        if verdict.right:
            self._best[tree] = max(self._best[tree], reward)

    def _reward(self, tree: int, program: Program, verdict: Verdict) -> float:
        return reward_of(self.questions[tree], verdict, program, self.depth, self.config)

    def _update(self, walk: _Walk) -> None:
        """Pay the reward of the program at the end of a walk to every edge on it."""
        table, tree = self._table, walk.tree
        reward = table.reward[tree, walk.nodes[-1]]
        for node, edge in zip(walk.nodes, walk.edges, strict=False):
            table.visits[tree, node, edge] += 1
            table.totals[tree, node, edge] += reward
        for node in walk.nodes:
            table.node_visits[tree, node] += 1

    def _charge(self, walk: _Walk, times: int) -> None:
        """Count a walk as taken and lost, or take that back."""
        table, tree = self._table, walk.tree
        for node, edge in zip(walk.nodes, walk.edges, strict=False):
            table.visits[tree, node, edge] += times
            table.virtual[tree, node, edge] += times
        for node in walk.nodes:
            table.node_visits[tree, node] += times

    def _trace(self, tree: int) -> Trace:
        table, states = self._table, self._states[tree]
        nodes, visits = [], dict[Program, int]()
        for node, state in enumerate(states):
            edges = range(int(table.edges[tree, node]))
            taken = [(int(table.visits[tree, node, e]), float(table.totals[tree, node, e])) for e in edges]
            children = tuple(
                Child(states[table.child[tree, node, e]], count, total / count if count else 0.0)
                for e, (count, total) in zip(edges, taken, strict=True)
            )
            seen = int(table.node_visits[tree, node])
            nodes.append(Node(state, seen, self._allowed[tree].get(node, 0), children))
            program = self.program(state)
            visits[program] = visits.get(program, 0) + seen
        return Trace(self.questions[tree], self.depth, self._verdicts[tree], tuple(nodes), visits)


def search(
    world: LiveWorld,
    questions: Sequence[Question],
    config: MctsConfig,
    seed: int = 0,
    on_round: Callable[[int], None] | None = None,
) -> list[Trace]:
    """Search some questions in lock step.

    Args:
        world: executes programs.
        questions: one tree each.
        config: the settings.
        seed: with each question's id it seeds that question's tree.
        on_round: called after each round with the number of programs evaluated in it.
    """
    trees = Search(questions, world.depth, config, seed)
    trees.run(world, on_round)
    return trees.traces()
