"""The headline of a report: methods beside a baseline, paired on the same questions.

Protocol: an agent that equals one fixed program has learnt nothing about questions, however far both are above the
identity. So the first baseline is the best static program, then the best one of each task, then the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from eval.statistics import Estimate, discordant, holm, mcnemar, paired_difference, smallest_difference

__all__ = ["ALL_TASKS", "NO_DIFFERENCE", "Comparison", "Comparisons", "compare", "compare_with"]

ALL_TASKS = "all"
"""Task of a comparison over all questions."""
NO_DIFFERENCE: Literal["no difference"] = "no difference"
"""What a comparison says where nothing is claimed."""
LEVEL = 0.05
"""Largest corrected p-value of a difference that is claimed."""


@dataclass(frozen=True)
class Comparison:
    """A method beside a baseline on the questions that both answered.

    Attributes:
        method: the method's name.
        base: the baseline's name.
        task: the task that the questions are of, or `ALL_TASKS`.
        delta: share of right answers of the method minus that of the baseline, with its paired bootstrap interval.
        won: questions that only the method answers rightly.
        lost: questions that only the baseline answers rightly.
        p: McNemar's exact test of these two.
        p_holm: the same, corrected by Holm for all methods and tasks that are compared with this baseline.
        smallest: the smallest difference that so many questions show in four of five evaluations; 1 where none could.
    """

    method: str
    base: str
    task: str
    delta: Estimate
    won: int
    lost: int
    p: float
    p_holm: float
    smallest: float

    @property
    def verdict(self) -> Literal["adds", "takes", "no difference"]:
        """What interval and corrected test say together; where they disagree, nothing is claimed."""
        if self.p_holm > LEVEL or self.delta.low <= 0 <= self.delta.high:
            return NO_DIFFERENCE
        return "adds" if self.delta.value > 0 else "takes"

    @property
    def sentence(self) -> str:
        """The finding in words."""
        counts = f"{self.won} questions won, {self.lost} lost, p = {self.p:.2g}, {self.p_holm:.2g} after Holm"
        points = f"{self.delta.percent(sign=True)} points"
        where = "" if self.task == ALL_TASKS else f" on {self.task}"
        if self.verdict == NO_DIFFERENCE:
            shows = (
                f"They would show one of {100 * self.smallest:.1f} points in four of five evaluations."
                if self.smallest < 1
                else "So few could show none."
            )
            return (
                f"{self.method} against {self.base}{where}: no difference that {self.delta.count:,} questions can show "
                f"({points}; {counts}). {shows}"
            )
        return (
            f"{self.method} {self.verdict} {points} to {self.base}{where} ({counts}; {self.delta.count:,} questions)."
        )

    def as_json(self) -> dict[str, Any]:
        """The keys that scripts read."""
        return {
            "base": self.base,
            "delta": self.delta.value,
            "low": self.delta.low,
            "high": self.delta.high,
            "won": self.won,
            "lost": self.lost,
            "p": self.p,
            "p_holm": self.p_holm,
            "smallest_difference": self.smallest,
            "questions": self.delta.count,
            "verdict": self.verdict,
        }


Comparisons = dict[str, dict[str, Comparison]]
"""By method, then by task."""


def compare(
    right: Sequence[bool], base: Sequence[bool], names: tuple[str, str], task: str = ALL_TASKS, seed: int = 0
) -> Comparison:
    """Compare two methods on the same questions; Holm's correction is for whoever makes several comparisons.

    Args:
        right: whether the method's answer to each question is right, at least one.
        base: the same of the baseline, in the same order.
        names: the method's and the baseline's.
        task: the task that the questions are of.
        seed: of the bootstrap.
    """
    won, lost = discordant(right, base)
    p = mcnemar(right, base)
    smallest = smallest_difference(won + lost, len(right))
    return Comparison(*names, task, paired_difference(right, base, seed), won, lost, p, p, smallest)


def compare_with(base: str, rows: pd.DataFrame, methods: Sequence[str], seed: int = 0) -> Comparisons:
    """Compare methods with a baseline, over all questions and task by task.

    Holm's correction is over all of these: methods and tasks.

    Args:
        base: name of the baseline.
        rows: one for each method and question, with ``method``, ``question_id``, ``task`` and ``right``.
        methods: names of the methods.
        seed: of the bootstraps.

    Returns:
        For each method that shares questions with the baseline, a comparison for each task; `ALL_TASKS` first.
    """
    right = rows.pivot(index="question_id", columns="method", values="right")
    task_of = rows.drop_duplicates("question_id").set_index("question_id")["task"].reindex(right.index)
    tasks = [str(task) for task in task_of.unique()]
    compared = []
    for method in methods:
        if method == base or not {method, base} <= set(right.columns):
            continue
        common = right[[method, base]].dropna().astype(bool)
        for task in [ALL_TASKS, *(tasks if len(tasks) > 1 else [])]:  # one task alone is all of them
            of_task = common if task == ALL_TASKS else common[task_of[common.index] == task]
            if len(of_task):
                pair = of_task[method].to_list(), of_task[base].to_list()
                compared.append(compare(*pair, (method, base), task, seed))
    by_method: Comparisons = {}
    for each, p_holm in zip(compared, holm([each.p for each in compared]), strict=True):
        by_method.setdefault(each.method, {})[each.task] = replace(each, p_holm=p_holm)
    return by_method
