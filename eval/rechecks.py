"""What only executing again can tell of a trace set: whether verdicts stand, and whether every change was needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.statistics import Estimate, share
from polar_env.edits import changes_of, with_changes
from polar_env.executor import Executor
from polar_env.program import Program
from polar_env.questions import Question

__all__ = ["Rechecks", "recheck"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Rechecks:
    """Findings on samples.

    Attributes:
        changed: share of verdicts that change when each is executed again, alone.
        survives: of fixes by two changes or more, with one change undone: share that is still right.
        needless: share of such fixes of which at least one change can be undone.
    """

    changed: Estimate | None
    survives: Estimate | None
    needless: Estimate | None


def recheck(executor: Executor, rows: Sequence[Row], questions: Sequence[Question], count: int, seed: int) -> Rechecks:
    """Execute a sample of verdicts and of fixes again.

    Args:
        executor: the model and prompt of the rows.
        rows: see `train.traces.TraceSet.rows`; those of trees are taken.
        questions: those of the rows; rows of others are left out.
        count: verdicts, and fixes, in each sample.
        seed: of the samples.
    """
    by_id = {question.id: question for question in questions}
    trees = [row for row in rows if row["stage"] == "tree" and row["question_id"] in by_id]
    rng = np.random.default_rng(seed)
    sample = [trees[i] for i in rng.permutation(len(trees))[:count]]
    changed = []
    with executor.from_nothing():
        for row in sample:
            executor.clear()
            (verdict,) = executor.verdicts([(by_id[row["question_id"]], Program.parse(row["program"]))])
            changed.append(verdict.right != row["right"])
    base = {row["question_id"]: row["right"] for row in trees if row["step"] == 0}
    fixes = [row for row in trees if row["right"] and not base.get(row["question_id"], True)]
    fixes = [fixes[i] for i in rng.permutation(len(fixes))]
    undone: list[tuple[int, Question, Program]] = []
    for row in fixes:
        changes = changes_of(Program.parse(row["program"]), executor.depth)
        if len(changes) < 2:
            continue
        number = undone[-1][0] + 1 if undone else 0
        if number == count:
            break
        for i in range(len(changes)):
            program = with_changes(changes[:i] + changes[i + 1 :], executor.depth)
            assert program is not None, "fewer of the changes of one program never clash"
            undone.append((number, by_id[row["question_id"]], program))
    verdicts = executor.verdicts([(question, program) for _, question, program in undone])
    right = [verdict.right for verdict in verdicts]
    of_fix: dict[int, list[bool]] = {}
    for (number, _, _), still in zip(undone, right, strict=True):
        of_fix.setdefault(number, []).append(still)
    return Rechecks(
        share(changed) if changed else None,
        share(right) if right else None,
        share([any(each) for each in of_fix.values()]) if of_fix else None,
    )
