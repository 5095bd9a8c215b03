"""The numbers of a report, from the rows of each question: a `MethodSummary` of each method, and tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.evaluate import ORACLE
from eval.statistics import Estimate, mcnemar, paired_difference, share
from eval.table import Table
from polar_env.program import Program

__all__ = ["IDENTITY", "MethodSummary", "shorter_share", "slower_notes", "summarise", "summary_table", "task_table"]

IDENTITY = "identity"
_COLUMNS = (
    "method",
    "pass@1 %, 95 % interval",
    "against identity, points",
    "p",
    "mean layers / D",
    "token-layers",
    "agent MFLOPs",
    "ms / question",
    "programs",
    "questions",
)
Row = dict[str, Any]


@dataclass(frozen=True)
class MethodSummary:
    """One line of the table.

    Attributes:
        method: its name.
        remark: what its row must say beside the name.
        pass_at_1: share of questions right, with a Wilson interval.
        delta: paired difference against the identity on the same questions; None for the identity itself, and for the
            oracle, which is no peer.
        p_value: McNemar's exact test against the identity.
        mean_cost: mean executed layers / D.
        seconds: mean seconds per question.
        token_layers: mean tokens through layers of the LLM per question, really executed.
        agent_flops: mean floating-point operations of the agent per question, beside the LLM's.
        questions: how many.
        executions: mean executions of each layer, ``[D]``.
        programs: distinct programs that it chose.
    """

    method: str
    remark: str
    pass_at_1: Estimate
    delta: Estimate | None
    p_value: float | None
    mean_cost: float
    seconds: float
    token_layers: float
    agent_flops: float
    questions: int
    executions: NDArray[np.float64]
    programs: int

    @property
    def label(self) -> str:
        """The name that a reader sees, with what must be said beside it: the oracle is an upper bound."""
        return f"{self.method} ({self.remark})" if self.remark else self.method

    def as_json(self) -> dict[str, float | int]:
        """The keys that scripts read."""
        return {
            "pass_at_1": self.pass_at_1.value,
            "low": self.pass_at_1.low,
            "high": self.pass_at_1.high,
            "mean_cost": self.mean_cost,
            "questions": self.questions,
            "seconds": self.seconds,
            "token_layers": self.token_layers,
            "agent_flops": self.agent_flops,
        }


def summarise(
    rows: Sequence[Row], depth: int, remarks: Mapping[str, str] | None = None, seed: int = 0
) -> dict[str, MethodSummary]:
    """One summary for each method, in the order in which they were measured.

    Args:
        rows: one for each method and question.
        depth: the model's depth.
        remarks: what a method's row must say beside its name.
        seed: of the bootstrap.
    """
    by_method: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        by_method[row["method"]][row["question_id"]] = row
    identity = by_method.get(IDENTITY, {})
    summaries = {}
    for method, by_question in by_method.items():
        measured = list(by_question.values())
        pairs = [(row["right"], identity[i]["right"]) for i, row in by_question.items() if i in identity]
        right, base = zip(*pairs, strict=True) if pairs else ((), ())
        compared = method not in (IDENTITY, ORACLE) and pairs
        summaries[method] = MethodSummary(
            method=method,
            remark="upper bound" if method == ORACLE else (remarks or {}).get(method, ""),
            pass_at_1=share([row["right"] for row in measured]),
            delta=paired_difference(right, base, seed) if compared else None,
            p_value=mcnemar(right, base) if compared else None,
            mean_cost=float(np.mean([row["cost"] for row in measured])),
            seconds=float(np.mean([row["seconds"] for row in measured])),
            token_layers=float(np.mean([row["token_layers"] for row in measured])),
            agent_flops=float(np.mean([row["agent_flops"] for row in measured])),
            questions=len(measured),
            executions=np.mean([Program.parse(row["program"]).executions(depth) for row in measured], axis=0),
            programs=len({row["program"] for row in measured}),
        )
    return summaries


def shorter_share(rows: Sequence[Row], depth: int) -> Estimate | None:
    """Share of identity-right questions for which the oracle found a right program of fewer layers; None without."""
    right = {row["question_id"] for row in rows if row["method"] == IDENTITY and row["right"]}
    shorter = [
        row["right"] and row["layers"] < depth
        for row in rows
        if row["method"] == ORACLE and row["question_id"] in right
    ]
    return share(shorter) if shorter else None


def summary_table(summaries: Mapping[str, MethodSummary]) -> Table:
    """The numbers of each method."""
    rows = [
        (
            summary.label,
            summary.pass_at_1.percent(),
            summary.delta.percent(sign=True) if summary.delta else "",
            "" if summary.p_value is None else f"{summary.p_value:.2g}",
            f"{summary.mean_cost:.3f}",
            f"{summary.token_layers:.0f}",
            f"{summary.agent_flops / 1e6:.2f}",
            f"{1000 * summary.seconds:.0f}",
            str(summary.programs),
            str(summary.questions),
        )
        for summary in summaries.values()
    ]
    return Table(_COLUMNS, rows)


def slower_notes(summaries: Mapping[str, MethodSummary]) -> list[str]:
    """A sentence for each method that executes fewer layers than the identity and yet takes longer."""
    identity = summaries.get(IDENTITY)
    if identity is None:
        return []
    return [
        f"{s.method} runs programs of fewer layers than the identity ({s.mean_cost:.3f} of it) and yet takes "
        f"{s.seconds / identity.seconds:.2f} times as long per question: it executed {s.token_layers:.0f} token-layers "
        f"to the identity's {identity.token_layers:.0f}, since programs of its own share fewer states, and spent "
        f"{s.agent_flops / 1e6:.2f} MFLOPs on deciding."
        for s in summaries.values()
        if s.method != ORACLE and s.mean_cost < identity.mean_cost and s.seconds > identity.seconds
    ]


def task_table(rows: Sequence[Row]) -> Table:
    """pass@1 of each method on each task, with Wilson intervals; the oracle is left out."""
    cells: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    methods = list(dict.fromkeys(row["method"] for row in rows if row["method"] != ORACLE))
    for row in rows:
        cells[row["task"]][row["method"]].append(row["right"])
    return Table(
        ("task", "questions", *methods),
        [
            (task, str(len(of[methods[0]])), *(share(of[m]).percent() if of[m] else "" for m in methods))
            for task, of in cells.items()
        ],
    )
