"""The rows of a trace set: a verdict for each (question, program) evaluated, a node for each state of a search tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from polar_env.program import Program
from polar_env.questions import Question
from polar_env.runner.verdict import Verdict
from polar_env.traces.stages import TREE
from polar_env.traces.tree import State, Trace

__all__ = ["NODES", "VERDICTS", "NodeRow", "VerdictRow", "node_rows", "state_text", "table_of", "verdict_rows"]


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One program evaluated on one question.

    Attributes:
        question_id: id of the question's ask.
        task, difficulty, split: the question's.
        stage: where the verdict comes from; see `polar_env.traces.stages`.
        order: place among the programs of a tree, in the order of evaluation; the identity is 0.
        program: its text form.
        layers: how many layers it executes.
        cost: the same divided by the model's depth.
        right: the verdict.
        log_prob: log-probability of the gold answer in nats; NaN where it is not known.
        visits: how often the tree came through the program.
    """

    question_id: str
    task: str
    difficulty: str
    split: str
    stage: str
    order: int
    program: str
    layers: int
    cost: float
    right: bool
    log_prob: float
    visits: int

    @classmethod
    def of(
        cls,
        question: Question,
        program: Program,
        verdict: Verdict,
        depth: int,
        *,
        stage: str,
        order: int = 0,
        visits: int = 0,
    ) -> VerdictRow:
        """The row of a verdict on a question."""
        return cls(
            question_id=question.id,
            task=question.task,
            difficulty=question.difficulty,
            split=str(question.split),
            stage=stage,
            order=order,
            program=str(program),
            layers=len(program),
            cost=program.cost(depth),
            right=verdict.right,
            log_prob=verdict.log_prob,
            visits=visits,
        )


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One state that a search tree came through.

    Attributes:
        question_id: id of the question's ask.
        order: place among the nodes of a tree, in the order of discovery; the root is 0.
        state: see `state_text`.
        visits: how often the search came through.
        allowed: how many children the rules allow; 0 where the search ended.
        prior: of each of them; they are alike.
        children: states of those that the search tried.
        child_visits, child_values: their visit counts and mean rewards.
    """

    question_id: str
    order: int
    state: str
    visits: int
    allowed: int
    prior: float
    children: list[str]
    child_visits: list[int]
    child_values: list[float]


VERDICTS = pa.schema(
    [
        ("question_id", pa.string()),
        ("task", pa.string()),
        ("difficulty", pa.string()),
        ("split", pa.string()),
        ("stage", pa.string()),
        ("order", pa.int32()),
        ("program", pa.string()),
        ("layers", pa.int32()),
        ("cost", pa.float32()),
        ("right", pa.bool_()),
        ("log_prob", pa.float32()),
        ("visits", pa.int32()),
    ]
)
NODES = pa.schema(
    [
        ("question_id", pa.string()),
        ("order", pa.int32()),
        ("state", pa.string()),
        ("visits", pa.int32()),
        ("allowed", pa.int32()),
        ("prior", pa.float32()),
        ("children", pa.list_(pa.string())),
        ("child_visits", pa.list_(pa.int32())),
        ("child_values", pa.list_(pa.float32())),
    ]
)


def table_of(rows: Sequence[VerdictRow] | Sequence[NodeRow], schema: pa.Schema) -> pa.Table:
    """Rows as columns."""
    return pa.table({name: [getattr(row, name) for row in rows] for name in schema.names}, schema=schema)


def state_text(state: State, depth: int) -> str:
    """A state in words: its layers as a program, ``stop`` behind a finished construction, empty at its root."""
    stopped = bool(state) and state[-1] == depth
    layers = state[:-1] if stopped else state
    return " ".join([*([str(Program(layers))] if layers else []), *(["stop"] if stopped else [])])


def verdict_rows(trace: Trace) -> list[VerdictRow]:
    """The programs that a search evaluated."""
    return [
        VerdictRow.of(
            trace.question, program, verdict, trace.depth, stage=TREE, order=order, visits=trace.visits[program]
        )
        for order, (program, verdict) in enumerate(trace.verdicts.items())
    ]


def node_rows(trace: Trace) -> list[NodeRow]:
    """The states that a search came through."""
    return [
        NodeRow(
            question_id=trace.question.id,
            order=order,
            state=state_text(node.state, trace.depth),
            visits=node.visits,
            allowed=node.allowed,
            prior=1 / node.allowed if node.allowed else 0.0,
            children=[state_text(child.state, trace.depth) for child in node.children],
            child_visits=[child.visits for child in node.children],
            child_values=[child.value for child in node.children],
        )
        for order, node in enumerate(trace.nodes)
        if node.visits
    ]
