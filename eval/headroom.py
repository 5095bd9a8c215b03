"""How much there is to learn in a recorded world, and how much of it a choice of programs captures.

Words of the routing benchmarks: best single is our best static program, the oracle takes a right program wherever one
is recorded, AIQ is the mean accuracy over the cost-quality hull (RouterBench, Hu et al. 2024).

Letters: ``Q`` questions, ``P`` programs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.comparison import Comparison, compare
from eval.frontier import frontier
from eval.statistics import Estimate, pooled, share
from eval.table import Table
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.worlds import RecordedWorld

__all__ = ["Headroom", "Score", "headroom", "headroom_table", "score_choices"]

_GRID = 65
_SHUFFLES = 200
Choices = NDArray[np.intp]


@dataclass(frozen=True)
class Headroom:
    """What methods that do not learn are worth on the questions of one split.

    Attributes:
        identity, static, per_task: pass@1 of the identity, the best static program, the best one of each task; the
            latter two are chosen on train and validation.
        oracle: share of questions that at least one program answers rightly.
        by_chance: the oracle that is expected where which program is right has nothing to do with the question, only
            with its task and difficulty: verdicts of each program shuffled among such questions.
        right_programs: quartiles of how many programs answer a question rightly.
        program: text of the best static program.
    """

    identity: Estimate
    static: Estimate
    per_task: Estimate
    oracle: Estimate
    by_chance: float
    right_programs: tuple[float, float, float]
    program: str


@dataclass(frozen=True)
class Score:
    """What a choice of programs captures.

    Attributes:
        score: share of the headroom: 0 is the best static program, 1 the oracle.
        pass_at_1: share of right answers.
        vs_static: the difference to the best static program, paired.
        mean_cost: executed layers / D.
        aiq: mean accuracy over the hull of identity, best static program and this choice, from the cheapest to the
            dearest program of the world.
    """

    score: Estimate
    pass_at_1: Estimate
    vs_static: Comparison
    mean_cost: float
    aiq: float


def headroom(
    world: RecordedWorld, best: Program, by_task: Mapping[str, Program], split: str = "test", seed: int = 0
) -> Headroom:
    """Measure a world.

    Args:
        world: the world.
        best: the best static program.
        by_task: the best one of each task.
        split: on which questions.
        seed: of the shuffles.
    """
    rows = world.rows(split)
    right, tasks = world.arrays["right"][rows], world.tasks[rows]
    static = world.column(best)
    per_task = [world.column(by_task.get(str(task), best)) for task in tasks]
    return Headroom(
        identity=share(right[:, 0]),
        static=share(right[:, static]),
        per_task=share(right[np.arange(len(rows)), per_task]),
        oracle=share(np.asarray(right.any(1))),
        by_chance=_oracle_by_chance(right, [world.questions[row] for row in rows], seed),
        right_programs=tuple(np.quantile(right.sum(1), [0.25, 0.5, 0.75]).tolist()),
        program=str(best),
    )


def _oracle_by_chance(right: NDArray[np.bool_], questions: Sequence[Question], seed: int) -> float:
    alike = np.unique([f"{q.task}\x1f{q.difficulty}" for q in questions], return_inverse=True)[1]
    rng, shares = np.random.default_rng(seed), []
    for _ in range(_SHUFFLES):
        shuffled = right.copy()
        for kind in range(alike.max() + 1):
            members = np.flatnonzero(alike == kind)
            shuffled[members] = rng.permuted(right[members], axis=0)  # each program by itself
        shares.append(shuffled.any(1).mean())
    return float(np.mean(shares))


def headroom_table(found: Headroom) -> Table:
    """What `polar record describe` prints."""
    first, median, third = found.right_programs
    return Table(
        ("who chooses", "pass@1 %"),
        [
            ("identity", found.identity.percent()),
            (f"best static program ({found.program})", found.static.percent()),
            ("best static program of each task", found.per_task.percent()),
            ("oracle of the recorded programs", found.oracle.percent()),
            ("the same, expected by chance", f"{100 * found.by_chance:.1f}"),
            ("right programs of a question: quartiles", f"{first:.0f}, {median:.0f}, {third:.0f}"),
        ],
    )


def score_choices(
    world: RecordedWorld, rows: Choices, chosen: Choices, costs: NDArray[np.float64], static: int, name: str
) -> Score:
    """Score the programs that somebody chose.

    Args:
        world: the world.
        rows: rows of the questions, ``[Q]``.
        chosen: the program chosen for each, a column, ``[Q]``.
        costs: executed layers / D of each answer, ``[Q]``.
        static: column of the best static program.
        name: who chose.
    """
    right = world.arrays["right"][rows]
    ours, base, best = right[np.arange(len(rows)), chosen], right[:, static], right.any(1)

    def captured(counts: NDArray[np.float64]) -> float:
        return float((counts[0] - counts[1]) / max(counts[2] - counts[1], 1.0))

    counts = np.stack([ours, base, best], axis=1).astype(float)
    grid = np.linspace(world.costs.min(), world.costs.max(), _GRID)
    accuracy = np.array([right[:, 0].mean(), base.mean(), ours.mean()])
    hull = frontier(np.array([1.0, world.costs[static], costs.mean()]), accuracy, grid)
    return Score(
        score=pooled(counts, captured),
        pass_at_1=share(ours),
        vs_static=compare(ours.tolist(), base.tolist(), (name, "best-static")),
        mean_cost=float(costs.mean()),
        aiq=float(np.maximum(hull, 0.0).mean()),
    )
