"""Verdict matrices: shared programs on many questions, the form that learners need.

Letters: ``Q`` questions, ``M`` programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from polar_env.errors import TraceError
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.traces.stages import IMPORTED

__all__ = ["VerdictMatrix", "shared_verdicts"]


@dataclass(frozen=True)
class VerdictMatrix:
    """Shared programs on all questions: the form that learners need.

    Attributes:
        question_ids: ``Q`` questions.
        programs: ``M`` programs; the first is the identity.
        right: ``bool [Q, M]``.
        costs: ``float [M]``, executed layers / D.
    """

    question_ids: list[str]
    programs: list[Program]
    right: NDArray[np.bool_]
    costs: NDArray[np.float64]

    def rewards(self, layer_cost: float) -> NDArray[np.float64]:
        """Verdict minus layer cost, ``[Q, M]``."""
        return self.right.astype(float) - layer_cost * self.costs

    def of(self, questions: Sequence[Question]) -> tuple[list[Question], VerdictMatrix]:
        """Those of some questions that the matrix knows, and their rows in the same order.

        Raises:
            TraceError: if it knows none of them.
        """
        row_of = {question_id: row for row, question_id in enumerate(self.question_ids)}
        traced = [question for question in questions if question.id in row_of]
        if not traced:
            raise TraceError("the traces are of none of these questions; give the --questions that were searched.")
        ids = [question.id for question in traced]
        return traced, replace(self, question_ids=ids, right=self.right[[row_of[i] for i in ids]])


def shared_verdicts(table: pd.DataFrame, depth: int, least_share: float) -> pd.DataFrame:
    """Whether the shared programs are right, measured here, ``bool [Q, M]``: questions by programs, the identity first.

    Args:
        table: columns ``question_id``, ``stage``, ``program``, ``right``.
        depth: the model's depth.
        least_share: a program is shared that was evaluated on this share of the questions, at least.

    Returns:
        The questions on which all shared programs were evaluated; empty where the identity was not.
    """
    identity = str(Program.identity(depth))
    measured = table[table["stage"] != IMPORTED].astype({"question_id": str, "program": str})
    measured = measured.drop_duplicates(["question_id", "program"], keep="last")
    everyone = measured.loc[measured["program"] == identity, "question_id"]
    measured = measured[measured["question_id"].isin(everyone)]
    counts = measured["program"].value_counts().drop(identity, errors="ignore")
    shared = [identity, *sorted(counts.index[counts >= least_share * len(everyone)])]
    of_shared = measured[measured["program"].isin(shared)]
    right = of_shared.pivot(index="question_id", columns="program", values="right")
    return right.reindex(columns=shared).dropna().astype(bool)
