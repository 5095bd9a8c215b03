"""The strongest static programs: one for all questions, and one for each task. They are the bar for every agent.

Static programs overfit: chosen on 72 questions, a second greedy edit gained 5.6 points there and lost 3.6 elsewhere. So
means are shrunk, the few best are measured on validation questions as well, and whatever loses more there than chance
explains is dropped.

Letters: ``Q`` questions, ``M`` programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polar_env.program import Program
from polar_env.questions import Question
from polar_env.traces import VerdictMatrix
from polar_env.worlds import RecordedWorld, World

__all__ = ["StaticChoice", "choose_static", "run_verdicts", "static_of_world"]

FINALISTS = 5
"""Programs, the best on train, that are measured on validation, for the mixture and for each task."""
PRIOR = 20.0
"""As many questions without any gain are added to a mean over all tasks."""
TASK_PRIOR = 100.0
"""As many questions with the mixture's mean gain are added to a mean over one task."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class StaticChoice:
    """The chosen programs.

    Attributes:
        program: for all tasks.
        by_task: for each task.
        finalists: the best for all tasks, the best first, the identity left out.
        train_gain: share of train questions that it answers rightly minus that of the identity.
        validation_gain: the same on validation questions.
        questions: train and validation questions behind the choice.
    """

    program: Program
    by_task: dict[str, Program]
    finalists: list[Program]
    train_gain: float
    validation_gain: float
    questions: int


def choose_static(
    world: World, train: Sequence[Question], matrix: VerdictMatrix, validation: Sequence[Question]
) -> StaticChoice:
    """Choose the best static program for all questions, and one for each task.

    Args:
        world: measures the finalists on validation questions.
        train: the questions of the matrix, in its order.
        matrix: verdicts of shared programs, the identity first.
        validation: other questions.
    """
    gains = matrix.right.astype(float) - matrix.right[:, :1]  # [Q, M]
    tasks = np.array([question.task for question in train])
    overall = gains.sum(0) / (len(gains) + PRIOR)
    finalists = _best(overall, matrix.costs)
    of_task = {
        task: _best(_shrunk(gains[tasks == task], overall), matrix.costs) for task in dict.fromkeys(tasks.tolist())
    }
    measured = sorted({0, *finalists, *(program for each in of_task.values() for program in each)})
    checked = np.zeros((len(validation), gains.shape[1]))  # of the others nothing is asked
    right = run_verdicts(world, validation, [matrix.programs[i] for i in measured])
    checked[:, measured] = right.astype(float) - right[:, :1]

    everything = np.vstack([gains, checked])
    pooled = everything.sum(0) / (len(everything) + PRIOR)
    confirmed = [i for i in finalists if not _refuted(checked[:, i])]
    best = max([0, *confirmed], key=lambda i: (pooled[i], -matrix.costs[i]))
    by_task = {}
    all_tasks = np.concatenate([tasks, [question.task for question in validation]])
    for task, programs in of_task.items():
        own = checked[[question.task == task for question in validation]]
        confirmed = [i for i in programs if not _refuted(own[:, i] - own[:, best])]
        estimate = _shrunk(everything[all_tasks == task], pooled)
        chosen = max([best, *confirmed], key=lambda i: (estimate[i], -matrix.costs[i]))
        by_task[task] = matrix.programs[chosen]
    return StaticChoice(
        program=matrix.programs[best],
        by_task=by_task,
        finalists=[matrix.programs[i] for i in finalists if i],
        train_gain=float(gains[:, best].mean()),
        validation_gain=float(checked[:, best].mean()) if len(checked) else 0.0,
        questions=len(everything),
    )


def static_of_world(world: RecordedWorld) -> StaticChoice:
    """The best static programs of a recorded world, chosen on its train and validation questions."""
    rows = world.rows("train")
    train, validation = ([world.questions[row] for row in world.rows(split)] for split in ("train", "validation"))
    ids = [question.id for question in train]
    matrix = VerdictMatrix(ids, world.programs, world.arrays["right"][rows], world.costs)
    return choose_static(world, train, matrix, validation)


def _best(scores: Array, costs: Array) -> list[int]:
    """The programs of largest score, of equal ones the cheaper first."""
    return [int(i) for i in np.lexsort((costs, -scores))[:FINALISTS]]


def _refuted(gains: Array) -> bool:
    """Whether gains on validation questions are below 0 by more than their standard error."""
    return len(gains) > 1 and bool(gains.mean() < -gains.std(ddof=1) / len(gains) ** 0.5)


def _shrunk(gains: Array, prior: Array) -> Array:
    """Mean gains on a task, ``[M]``, drawn towards those on all tasks."""
    return np.asarray((gains.sum(0) + TASK_PRIOR * prior) / (len(gains) + TASK_PRIOR))


def run_verdicts(world: World, questions: Sequence[Question], programs: Sequence[Program]) -> NDArray[np.bool_]:
    """Whether programs are right, ``bool [Q, M]``."""
    verdicts = world.verdicts([(question, program) for question in questions for program in programs])
    return np.array([verdict.right for verdict in verdicts], bool).reshape(len(questions), len(programs))
