"""Monte Carlo tree search over programs, by edits: skip or repeat a block of the program at hand.

After CoLa (arXiv 2507.07996, section 3): the root is the identity program, an action is one edit, and a node is chosen
by ``Q + c sqrt(ln V / v) - lambda * len / D``. Many questions are searched in lock step, one new program each, so that
the executor always gets full batches; where there are fewer questions than rows in a batch, a tree gives several
programs at once, which virtual loss keeps apart. Random numbers come from the seed, the question and the program at
hand: with one program a round (the default) a tree does not depend on which questions are searched beside it.

Letters: ``V`` visits of a node, ``v`` visits of an edge, ``Q`` mean reward of an edge, ``D`` the model's depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from agents.fixed import seeded_rng
from polar_env.config import Config
from polar_env.executor import Executor, Verdict
from polar_env.program import Program, single_edits
from polar_env.questions import Question

__all__ = ["MctsConfig", "Tree", "best_programs", "grow", "search"]

_MAX_WALKS = 64
"""How many walks in a row may end at a known program before a tree counts as exhausted."""


class MctsConfig(Config):
    """Settings of the tree search."""

    simulations: int = Field(default=32, ge=1)
    """Programs evaluated per question, besides the identity."""
    exploration: float = Field(default=1.0, ge=0)
    """The constant c of the UCB term."""
    length_penalty: float = Field(default=0.5, ge=0)
    """The constant lambda: score lost per executed layer / D when a child is chosen."""
    layer_cost: float = Field(default=0.1, ge=0)
    """Reward lost per executed layer / D; the reward is the verdict minus this."""
    widening: float = Field(default=2.0, gt=0)
    """A node has at most ceil(widening * sqrt(visits)) children (progressive widening)."""
    random_child: float = Field(default=0.1, ge=0, le=1)
    """Probability of walking on to a random child instead of the best."""
    max_visits: int = Field(default=4, ge=1)
    """Most executions of one layer in a program."""
    rows: int = Field(default=1, ge=1)
    """Programs that a round evaluates at least, over all trees: with fewer questions than that, each tree gives several
    at once, chosen without knowing of each other, so that batches are full. 1 searches every tree step by step."""
    shared_edits: bool = True
    """Whether all questions try the edits of a program in the same order. Their trees then evaluate the same programs,
    which share the prompt's work and compare across questions; off, each question has an order of its own."""


@dataclass
class _Edge:
    """Statistics of one edit at one node; two nodes that lead to the same program keep an edge each."""

    child: Program
    visits: int = 0
    total: float = 0.0
    virtual: int = 0  # losses that are only assumed


@dataclass
class _Node:
    edges: list[_Edge] = field(default_factory=list)
    untried: list[Program] | None = None
    visits: int = 0


@dataclass(frozen=True)
class Leaf:
    """A new program, and the edges walked to it."""

    program: Program
    path: tuple[_Edge, ...] = ()


class Tree:
    """The search over one question.

    Args:
        question: the question.
        depth: the model's depth.
        config: the settings.
        seed: with the question's id it seeds this tree.

    Attributes:
        verdicts: every program evaluated, in order; the identity first.
        nodes: statistics by program.
        exhausted: whether no new program can be reached any more.
    """

    def __init__(self, question: Question, depth: int, config: MctsConfig, seed: int) -> None:
        self.question, self.depth, self.config = question, depth, config
        self.rng = seeded_rng(seed, question.id)
        self._edits_seed = (seed,) if config.shared_edits else (seed, question.id)
        self.identity = Program.identity(depth)
        self.verdicts: dict[Program, Verdict] = {}
        self.nodes: dict[Program, _Node] = {self.identity: _Node()}
        self.exhausted = False

    @property
    def left(self) -> int:
        """Programs still to be evaluated; the identity comes on top of the simulations."""
        return 0 if self.exhausted else self.config.simulations + 1 - len(self.verdicts)

    def leaves(self, count: int) -> list[Leaf]:
        """Up to ``count`` different new programs, each walk avoiding those before it.

        Virtual loss (Chaslot et al. 2008): until all are chosen, each counts as evaluated and lost.
        """
        found: dict[Program, Leaf] = {}
        charged: list[tuple[_Edge, ...]] = []
        for _ in range(count + _MAX_WALKS):
            leaf = self.select()
            if leaf is not None:
                found.setdefault(leaf.program, leaf)
            if leaf is None or not leaf.path or len(found) == count:
                break
            charged.append(leaf.path)
            self._charge(leaf.path, 1)
        for path in charged:
            self._charge(path, -1)
        return list(found.values())

    def _charge(self, path: tuple[_Edge, ...], times: int) -> None:
        """Count a walk as evaluated and lost, or take that back."""
        self.nodes[self.identity].visits += times
        for edge in path:
            edge.visits += times
            edge.virtual += times
            self.nodes[edge.child].visits += times

    def select(self) -> Leaf | None:
        """Walk down to a program that is new; None once no new program can be reached.

        The first call gives the identity. Known programs cost nothing, so the walk goes on through them.
        """
        if not self.verdicts:
            return Leaf(self.identity)
        for _ in range(_MAX_WALKS):
            path: list[_Edge] = []
            program = self.identity
            while program in self.verdicts:
                node = self.nodes[program]
                if len(node.edges) < self._most_children(node):
                    self._widen(node, program)
                if not node.edges:
                    break
                edge = self._choose(node)
                path.append(edge)
                program = edge.child
                if program not in self.nodes:
                    self.nodes[program] = _Node()
                if len(path) > self.depth:  # edits can undo each other: end the walk here
                    break
            leaf = Leaf(program, tuple(path))
            if program not in self.verdicts:
                return leaf
            self.update(leaf, self.verdicts[program])
        return None

    def update(self, leaf: Leaf, verdict: Verdict) -> None:
        """Take in a verdict: pay its reward to every edge on the path walked."""
        self.verdicts.setdefault(leaf.program, verdict)
        reward = float(verdict.right) - self.config.layer_cost * leaf.program.cost(self.depth)
        self.nodes[self.identity].visits += 1
        for edge in leaf.path:
            edge.visits += 1
            edge.total += reward
            self.nodes[edge.child].visits += 1

    def _most_children(self, node: _Node) -> int:
        return math.ceil(self.config.widening * math.sqrt(max(1, node.visits)))

    def _widen(self, node: _Node, program: Program) -> None:
        """Give a node one more child: the next of its edits, in an order drawn once."""
        if node.untried is None:
            edits = [edit for edit in single_edits(program) if self._fits(edit)]
            order = seeded_rng(*self._edits_seed, program).permutation(len(edits))
            node.untried = [edits[index] for index in order]
        if node.untried:
            node.edges.append(_Edge(node.untried.pop()))

    def _fits(self, program: Program) -> bool:
        most = max(program.executions(self.depth))
        return len(program) <= 2 * self.depth and most <= self.config.max_visits

    def _choose(self, node: _Node) -> _Edge:
        if self.rng.random() < self.config.random_child:
            return node.edges[int(self.rng.integers(len(node.edges)))]
        return max(node.edges, key=lambda edge: self._score(node, edge))

    def _score(self, node: _Node, edge: _Edge) -> float:
        if edge.visits == 0:
            return math.inf
        explore = self.config.exploration * math.sqrt(math.log(max(1, node.visits)) / edge.visits)
        return (
            (edge.total - edge.virtual) / edge.visits
            + explore
            - self.config.length_penalty * edge.child.cost(self.depth)
        )

    def visits(self, program: Program) -> int:
        """How often the search came through a program."""
        return self.nodes[program].visits if program in self.nodes else 0


def search(
    executor: Executor,
    questions: Sequence[Question],
    config: MctsConfig,
    seed: int = 0,
    on_round: Callable[[int], None] | None = None,
) -> list[Tree]:
    """Search some questions in lock step.

    Args:
        executor: executes programs.
        questions: one tree each.
        config: the settings.
        seed: with each question's id it seeds that question's tree.
        on_round: called after each round with the number of programs evaluated in it.
    """
    trees = [Tree(question, executor.depth, config, seed) for question in questions]
    grow(executor, trees, on_round)
    return trees


def grow(executor: Executor, trees: Sequence[Tree], on_round: Callable[[int], None] | None = None) -> None:
    """Grow trees in lock step to the simulations of their configuration; see `search`."""
    while growing := [tree for tree in trees if tree.left]:
        leaves = []
        for tree in growing:
            count = min(tree.left, -(-tree.config.rows // len(growing)))
            found = tree.leaves(count)
            leaves += [(tree, leaf) for leaf in found]
            tree.exhausted = len(found) == 0
        verdicts = executor.verdicts([(tree.question, leaf.program) for tree, leaf in leaves])
        for (tree, leaf), verdict in zip(leaves, verdicts, strict=True):
            tree.update(leaf, verdict)
        if on_round is not None and leaves:
            on_round(len(leaves))


def best_programs(tree: Tree) -> list[Program]:
    """The programs that a tree evaluated, right ones first, then by length; ties in the order of discovery."""
    order = {program: i for i, program in enumerate(tree.verdicts)}
    return sorted(tree.verdicts, key=lambda p: (not tree.verdicts[p].right, _rank_length(tree, p), order[p]))


def _rank_length(tree: Tree, program: Program) -> int:
    # Among wrong programs the identity comes first, since nothing is gained by leaving it.
    return len(program) if tree.verdicts[program].right else int(program != tree.identity)
