"""What only executing again can tell of a trace set: whether verdicts stand, and whether every change was needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.statistics import Estimate, share
from polar_env.edits import Change, changes_of, with_changes
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
        fixes_lost: the same for fixes, right programs where the identity is wrong: what a search has picked out is most
            likely to be borderline.
        survives: of fixes by two changes or more, one of each question: share still right with a random one undone.
        needless: share of the same of which at least one change can be undone.
    """

    changed: Estimate | None
    fixes_lost: Estimate | None
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
    base = {row["question_id"]: row["right"] for row in trees if row["step"] == 0}
    fixes = [row for row in trees if row["right"] and not base.get(row["question_id"], True)]
    fixes = [fixes[i] for i in rng.permutation(len(fixes))]
    sample = [trees[i] for i in rng.permutation(len(trees))[:count]]
    changed, lost = ([_changes_alone(executor, by_id, row) for row in some] for some in (sample, fixes[:count]))
    several: dict[str, list[Change]] = {}
    for row in fixes:
        changes = changes_of(Program.parse(row["program"]), executor.depth)
        if len(changes) > 1 and len(several) < count:
            several.setdefault(row["question_id"], changes)
    variants = [
        (question_id, changes[:i] + changes[i + 1 :])
        for question_id, changes in several.items()
        for i in range(len(changes))
    ]
    programs = [with_changes(kept, executor.depth) for _, kept in variants]
    asked = [(by_id[q], program) for (q, _), program in zip(variants, programs, strict=True) if program is not None]
    assert len(asked) == len(variants), "fewer of the changes of one program never clash"
    of_fix: dict[str, list[bool]] = {question_id: [] for question_id in several}
    for (question_id, _), verdict in zip(variants, executor.verdicts(asked), strict=True):
        of_fix[question_id].append(verdict.right)
    drawn = [right[rng.integers(len(right))] for right in of_fix.values()]
    return Rechecks(
        share(changed) if changed else None,
        share(lost) if lost else None,
        share(drawn) if drawn else None,
        share([any(right) for right in of_fix.values()]) if of_fix else None,
    )


def _changes_alone(executor: Executor, by_id: dict[str, Question], row: Row) -> bool:
    """Whether a verdict is another one when the pair is executed alone, from nothing."""
    with executor.from_nothing():
        (verdict,) = executor.verdicts([(by_id[row["question_id"]], Program.parse(row["program"]))])
    return verdict.right != bool(row["right"])
