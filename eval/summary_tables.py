"""The tables of a report: what a `Summary` holds, in rows and columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.comparison import ALL_TASKS, Comparison, Comparisons
from eval.methods import IDENTITY
from eval.statistics import Estimate
from eval.summary import MethodSummary, Summary
from eval.table import Table

__all__ = ["comparison_table", "method_table", "slower_notes", "task_table"]


def method_table(summary: Summary) -> Table:
    """The numbers of each method."""
    return Table(
        ("method", "pass@1 %, 95 % interval", "mean layers / D", "GFLOPs", "agent MFLOPs", "ms / question", "programs",
         "questions"),
        [
            (
                each.label,
                each.pass_at_1.percent(),
                f"{each.mean_cost:.3f}",
                f"{each.flops / 1e9:.2f}",
                f"{each.agent_flops / 1e6:.2f}",
                "" if each.seconds is None else f"{1000 * each.seconds:.0f}",
                str(each.programs),
                str(each.pass_at_1.count),
            )
            for each in summary.methods.values()
        ],
    )  # fmt: skip


def comparison_table(
    comparisons: Comparisons,
    by_task: Sequence[str] | None = None,
    form_repair: Mapping[str, Estimate] | None = None,
) -> Table:
    """Methods beside one baseline over all questions, and some of them task by task.

    Args:
        comparisons: of one baseline.
        by_task: names of the methods that get a row for each task; None for all.
        form_repair: see `Summary.form_repair`; a column where the baseline is the identity.
    """

    def form(each: Comparison) -> tuple[str, ...]:
        if form_repair is None:
            return ()
        of = form_repair.get(each.method) if each.task == ALL_TASKS else None
        return (f"{100 * of.value:.0f}" if of else "",)

    return Table(
        ("method", "task", "points, 95 % interval", "won", "lost", "p", "p (Holm)", "could show", "it",
         *(() if form_repair is None else ("form % of won",))),
        [
            (
                each.method,
                each.task,
                each.delta.percent(sign=True),
                str(each.won),
                str(each.lost),
                f"{each.p:.2g}",
                f"{each.p_holm:.2g}",
                f"{100 * each.smallest:.1f}",
                each.verdict,
                *form(each),
            )
            for method, of_method in comparisons.items()
            for each in of_method.values()
            if each.task == ALL_TASKS or by_task is None or method in by_task
        ],
    )  # fmt: skip


def task_table(summary: Summary) -> Table:
    """pass@1 of each method on each task, with Wilson intervals; the oracle is left out."""
    methods = [each for each in summary.methods.values() if each.role != "oracle"]
    tasks = dict.fromkeys(task for each in methods for task in each.by_task)
    return Table(
        ("task", "questions", *(each.method for each in methods)),
        [
            (
                task,
                str(max(each.by_task[task].count for each in methods if task in each.by_task)),
                *(each.by_task[task].percent() if task in each.by_task else "" for each in methods),
            )
            for task in tasks
        ],
    )


def slower_notes(summary: Summary) -> list[str]:
    """A sentence for each method that executes fewer layers than the identity and yet takes longer."""
    identity = summary.methods.get(IDENTITY)
    if identity is None or identity.seconds is None or identity.token_layers is None:
        return []
    return [
        f"{each.method} executes fewer layers than the identity ({each.mean_cost:.3f} of it) and yet takes "
        f"{each.seconds / identity.seconds:.2f} times as long per question. {_why_slower(each, identity.token_layers)}"
        for each in summary.methods.values()
        if each.seconds is not None
        and each.token_layers is not None
        and each.mean_cost < identity.mean_cost
        and each.seconds > identity.seconds
    ]


def _why_slower(method: MethodSummary, of_identity: float) -> str:
    executed = f"It executed {method.token_layers or 0:.0f} token-layers to the identity's {of_identity:.0f}"
    shares_less = ", since programs of its own share fewer states" if (method.token_layers or 0) > of_identity else ""
    return f"{executed}{shares_less}, and spent {method.agent_flops / 1e6:.2f} MFLOPs on deciding."
