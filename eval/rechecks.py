"""What only executing again can tell of a trace set: whether verdicts stand, and whether every change was needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from eval.agreement import written_answers
from eval.statistics import Estimate, share
from polar_env.edits import Change, changes_of, with_changes
from polar_env.program import Program
from polar_env.questions import Question, is_right
from polar_env.traces.stages import TREE
from polar_env.worlds import LiveWorld

__all__ = ["Rechecks", "recheck"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Rechecks:
    """Findings on samples.

    Attributes:
        changed: share of verdicts that change when each is executed again, alone.
        fixes_lost: the same for fixes, right programs where the identity is wrong, one of each question: what a search
            has picked out is most likely to be borderline.
        regenerated: share of the same verdicts, those on open questions, that change when the program writes its answer
            token by token and the verifier reads it.
        fixes_not_written: the same for fixes.
        survives: of fixes by two changes or more, one of each question: share still right with a random one undone.
        needless: share of the same of which at least one change can be undone.
    """

    changed: Estimate | None
    fixes_lost: Estimate | None
    regenerated: Estimate | None
    fixes_not_written: Estimate | None
    survives: Estimate | None
    needless: Estimate | None


def recheck(world: LiveWorld, table: pd.DataFrame, questions: Sequence[Question], count: int, seed: int) -> Rechecks:
    """Execute a sample of verdicts and of fixes again.

    Args:
        world: the model and prompt of the rows.
        table: see `polar_env.traces.TraceSet.table`; the rows of trees are taken.
        questions: those of the rows; rows of others are left out.
        count: verdicts, and fixes, in each sample.
        seed: of the samples.
    """
    by_id = {question.id: question for question in questions}
    trees = table[(table["stage"] == TREE) & table["question_id"].isin(list(by_id))]
    rng = np.random.default_rng(seed)
    wrong = trees.loc[(trees["order"] == 0) & ~trees["right"], "question_id"]
    fixes = _shuffled(trees[trees["right"] & trees["question_id"].isin(wrong)], rng)
    of_each = list({row["question_id"]: row for row in fixes}.values())  # many of one question tell less than they seem
    samples = _shuffled(trees, rng, count), of_each[:count]
    changed, lost = ([_changes_alone(world, by_id, row) for row in some] for some in samples)
    rewritten, not_written = (_change_written(world, by_id, some) for some in samples)
    undone = list(_undone(world, by_id, fixes, count).values())
    drawn = [bool(right[rng.integers(len(right))]) for right in undone]
    needless = [any(right) for right in undone]
    samples_of = (changed, lost, rewritten, not_written, drawn, needless)
    return Rechecks(*(share(some) if some else None for some in samples_of))


def _undone(world: LiveWorld, by_id: dict[str, Question], fixes: Sequence[Row], count: int) -> dict[str, list[bool]]:
    """Of fixes by two changes or more, one of each question: whether each is still right with a change undone."""
    several: dict[str, list[Change]] = {}
    for row in fixes:
        changes = changes_of(Program.parse(row["program"]), world.depth)
        if len(changes) > 1:
            several.setdefault(row["question_id"], changes)
        if len(several) == count:
            break
    variants = [
        (question_id, changes[:i] + changes[i + 1 :])
        for question_id, changes in several.items()
        for i in range(len(changes))
    ]
    programs = [with_changes(kept, world.depth) for _, kept in variants]
    asked = [(by_id[q], program) for (q, _), program in zip(variants, programs, strict=True) if program is not None]
    assert len(asked) == len(variants), "fewer of the changes of one program never clash"
    right: dict[str, list[bool]] = {question_id: [] for question_id in several}
    for (question_id, _), verdict in zip(variants, world.verdicts(asked), strict=True):
        right[question_id].append(verdict.right)
    return right


def _shuffled(rows: pd.DataFrame, rng: np.random.Generator, count: int | None = None) -> list[Row]:
    shuffled: list[Row] = rows.iloc[rng.permutation(len(rows))[:count]].to_dict("records")
    return shuffled


def _change_written(world: LiveWorld, by_id: dict[str, Question], rows: Sequence[Row]) -> list[bool]:
    """Whether verdicts on open questions are others by what the programs write."""
    rows = [row for row in rows if not by_id[row["question_id"]].choices]
    questions = [by_id[row["question_id"]] for row in rows]
    written = written_answers(world, questions, [Program.parse(row["program"]) for row in rows])
    return [is_right(text, q) != bool(row["right"]) for text, q, row in zip(written, questions, rows, strict=True)]


def _changes_alone(world: LiveWorld, by_id: dict[str, Question], row: Row) -> bool:
    """Whether a verdict is another one when the pair is executed alone, from nothing."""
    with world.from_nothing():
        (verdict,) = world.verdicts([(by_id[row["question_id"]], Program.parse(row["program"]))])
    return verdict.right != bool(row["right"])
