"""What a search over one question tried, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from polar_env.program import Program
from polar_env.questions import Question
from polar_env.runner.verdict import Verdict

__all__ = ["Child", "Node", "State", "Trace", "best_programs"]

State = tuple[int, ...]
"""A state of a search: the layers of a program, or of the beginning of one; the depth itself stands for the stop."""


@dataclass(frozen=True)
class Child:
    """One move at a node.

    Attributes:
        state: where it leads.
        visits: how often the search took it.
        value: mean reward behind it; 0 where it was never taken.
    """

    state: State
    visits: int
    value: float


@dataclass(frozen=True)
class Node:
    """A state that the search came through.

    Attributes:
        state: the state.
        visits: how often the search came through.
        allowed: how many moves the rules allow there; each has the same prior.
        children: those that the search tried, in that order.
    """

    state: State
    visits: int
    allowed: int
    children: tuple[Child, ...]


@dataclass(frozen=True)
class Trace:
    """All that one search over one question tried.

    Attributes:
        question: the question.
        depth: the model's depth.
        verdicts: every program evaluated, in order; the identity first.
        nodes: every state walked through, in order; the root first.
        visits: how often the search came through a program, whatever the state.
    """

    question: Question
    depth: int
    verdicts: dict[Program, Verdict]
    nodes: tuple[Node, ...]
    visits: dict[Program, int]


def best_programs(trace: Trace) -> list[Program]:
    """The programs that a search evaluated, right ones first, then by length; ties in the order of discovery."""
    order = {program: i for i, program in enumerate(trace.verdicts)}
    return sorted(trace.verdicts, key=lambda p: (not trace.verdicts[p].right, _rank_length(trace, p), order[p]))


def _rank_length(trace: Trace, program: Program) -> int:
    # Among wrong programs the identity comes first, since nothing is gained by leaving it.
    return len(program) if trace.verdicts[program].right else int(program != Program.identity(trace.depth))
