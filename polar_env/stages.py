"""Where verdicts come from, and what several sources tell together: the programs that many questions share.

Letters: ``Q`` questions, ``M`` programs.
"""

from __future__ import annotations

import pandas as pd

from polar_env.program import Program

__all__ = ["CHANCE", "IMPORTED", "MATRIX", "SINGLES", "TREE", "shared_verdicts"]

TREE = "tree"
"""Stage of rows that a tree search made."""
MATRIX = "matrix"
"""Stage of rows of shared programs."""
CHANCE = "chance"
"""Stage of rows of random programs."""
SINGLES = "singles"
"""Stage of rows of random single edits of the identity."""
IMPORTED = "imported"
"""Stage of verdicts that another code base gave: they propose programs, but do not count as measured here."""


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
