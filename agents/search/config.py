"""Settings of the tree search, and the published ones as presets."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from polar_env.config import Config
from polar_env.program import MAX_BLOCK

__all__ = ["PRESETS", "MctsConfig"]


class MctsConfig(Config):
    """Settings of the tree search."""

    simulations: int = Field(default=32, ge=1)
    """Programs evaluated per question, besides the identity; a walk to a program with a verdict is free."""
    moves: Literal["edits", "construction"] = "edits"
    """What a move is: an edit of a whole program, or the choice of the next layer of a program, from left to right."""
    exploration: float = Field(default=1.0, ge=0)
    """The constant c of the UCB term."""
    length_penalty: float = Field(default=0.5, ge=0)
    """The constant lambda: score lost per executed layer / D when a child is chosen."""
    layer_cost: float = Field(default=0.1, ge=0)
    """Reward lost per executed layer / D; the reward is the verdict minus this."""
    partial_credit: float = Field(default=0.0, ge=0, le=1)
    """Bound of the reward of a wrong answer to an open question: it is this times n / (n + 1), where n tokens of the
    gold answer come before the first wrong one. It shows which edits to build upon before any program is right."""
    widening: float | None = Field(default=2.0, ge=0)
    """Progressive widening: a node has at most ceil(widening * sqrt(visits)) open children, and at least one. Without
    it a node tries all its children once before it tries any of them twice."""
    random_child: float = Field(default=0.1, ge=0, le=1)
    """Probability that a random child is selected, tried or not, instead of the best."""
    skip_block: int = Field(default=MAX_BLOCK, ge=0)
    """Longest run of layers that one move skips."""
    repeat_block: int = Field(default=MAX_BLOCK, ge=0)
    """Longest run of layers that one move repeats."""
    repeats: int = Field(default=2, ge=2)
    """Most executions in a row to which one edit brings a run of layers."""
    any_order: bool = False
    """Whether layers may come in any order: edits also exchange neighbouring blocks, construction may go on with any
    layer."""
    max_visits: int = Field(default=4, ge=1)
    """Most executions of one layer in a program."""
    prune: bool = False
    """Leave out nodes that cannot lead to a better program than the best so far: a reward is at most 1 minus the cost
    of the layers that are certain to be executed."""
    root_candidates: int = Field(default=0, ge=0)
    """Children of the root among which Gumbel noise and sequential halving share the simulations; 0 selects by UCB
    at the root, too."""
    rows: int = Field(default=1, ge=1)
    """Programs that a round evaluates at least, over all trees, so that batches are full. With fewer questions than
    that, each tree selects several programs under virtual loss; with 1 each tree selects one program a round."""
    shared_edits: bool = True
    """Whether all questions try the children of a state in the same order. Their trees then evaluate the same programs,
    which share the execution of the prompt and compare across questions; if off, each question has its own order."""

    def count_programs(self, trees: int) -> int:
        """About how many different programs so many trees evaluate: a fit to four sets of 8 to 500 trees, three of
        which it meets within a half; of multiple choice there were 2.4 times as many.
        """
        return round(self.simulations * (1 + math.sqrt(trees) / 5)) if trees else 0


PRESETS = {
    # Broad before deep: the search tries a hundred children of the root once each, in an order that all questions
    # share, so that they share the execution of the prompt; then it follows the edits that get most of an answer
    # right.
    "fast": MctsConfig(
        simulations=200,
        exploration=0.1,
        length_penalty=0.0,
        partial_credit=1.0,
        widening=10.0,
        random_child=0.0,
    ),
    # CoLa, arXiv 2507.07996. Its authors published a search later with PoLar; from there come the constant c and the
    # rule that a node tries one child by itself and others only at random.
    "cola": MctsConfig(
        simulations=200,
        exploration=2**0.5,
        length_penalty=5.0,
        widening=0.0,
        random_child=0.1,
        repeats=4,
        shared_edits=False,
    ),
    # Dr.LLM, arXiv 2510.12773; its code runs 200 simulations where the paper says 50.
    "drllm": MctsConfig(
        simulations=50,
        exploration=1.8,
        length_penalty=3.0,
        widening=None,
        random_child=0.0,
        skip_block=2,
        repeat_block=1,
        max_visits=2,
        shared_edits=False,
    ),
    # RE-PoLar, arXiv 2609.31360.
    "repolar": MctsConfig(
        simulations=100,
        exploration=2**0.5,
        length_penalty=5.0,
        widening=2.0,
        random_child=0.0,
        repeats=4,
        shared_edits=False,
    ),
}
"""Settings by name: ours (``fast``) and those of the papers, as far as they give them; the reward's layer cost and what
a paper leaves open are ours."""
