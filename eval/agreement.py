"""Two verdicts on one answer: teacher-forced, and by generation with the verifier. How often do they agree?

The first is fast and sees one spelling of the answer only; the second is what a user gets, and what reports count.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from eval.comparison import ALL_TASKS
from eval.statistics import share
from eval.table import Table
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.worlds import LiveWorld

__all__ = ["agreement_table", "disagreements", "written_answers"]

_SHOWN = 20
_KINDS = {
    (True, True): "both right",
    (True, False): "only teacher-forced",
    (False, True): "only generated",
    (False, False): "both wrong",
}
"""Column of each pair of verdicts: teacher-forced, generated."""


def written_answers(world: LiveWorld, questions: Sequence[Question], programs: Sequence[Program]) -> list[str]:
    """What a program writes in answer to each question."""
    return [answer.text for answer in world.answers([question.ask for question in questions], programs)]


def agreement_table(rows: pd.DataFrame) -> Table | None:
    """How often the two verdicts agree, for each method and task, and how they differ; None without two verdicts.

    Args:
        rows: rows of `eval.results.Results`.
    """
    judged = rows[rows["forced"].notna()]
    if judged.empty:
        return None
    judged = judged.assign(forced=judged["forced"].astype(bool))
    cells = []
    for method, of_method in judged.groupby("method", sort=False):
        for task in [*of_method["task"].unique(), ALL_TASKS]:
            members = of_method if task == ALL_TASKS else of_method[of_method["task"] == task]
            counts = [
                str(int(((members["forced"] == forced) & (members["right"] == generated)).sum()))
                for forced, generated in _KINDS
            ]
            agreed = share((members["forced"] == members["right"]).to_numpy())
            cells.append((str(method), str(task), str(agreed.count), agreed.percent(), *counts))
    return Table(("method", "task", "questions", "agree %, 95 % interval", *_KINDS.values()), cells)


def disagreements(rows: pd.DataFrame) -> Table | None:
    """Some answers on which the two verdicts differ; None where there are none."""
    judged = rows[rows["forced"].notna()]
    differing = judged[judged["forced"].astype(bool) != judged["right"]].drop_duplicates(["question_id", "program"])
    if differing.empty:
        return None
    cells = [
        (row.method, row.text, row.gold, row.answer, _KINDS[bool(row.forced), bool(row.right)])
        for row in differing.head(_SHOWN).itertuples()
    ]
    return Table(("method", "question", "gold", "written", "verdict"), cells)
