"""How much there is to learn in a recorded world, and how much of it a choice of programs captures.

Words of the routing benchmarks: best single is our best static program, the oracle takes a right program wherever one
is recorded, AIQ is the mean accuracy over the cost-quality hull (RouterBench, Hu et al. 2024).

Letters: ``Q`` questions, ``P`` programs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.frontier import frontier
from eval.statistics import Estimate, interquartile_mean, mean, pooled, share
from eval.table import Table
from polar_env.errors import QuestionError
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.worlds import RecordedWorld

__all__ = ["Headroom", "LearnerScore", "headroom", "headroom_table", "reference_table", "score_learner"]

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
class LearnerScore:
    """What a learner captures over some seeds.

    Attributes:
        score: share of the headroom: 0 is the best static program, 1 the oracle; interquartile mean over seeds.
        over_questions: the same of all seeds together, with an interval over questions.
        pass_at_1: share of right answers, mean over seeds.
        vs_static: the difference to the best static program, mean over seeds, with an interval over questions.
        mean_cost: executed layers / D.
        aiq: mean accuracy over the cost-quality hull of identity, best static program and this learner, from the
            cheapest to the dearest program of the world; 0 counts where a cost is below the cheapest of the three.
        seconds: to learn once.
    """

    score: Estimate
    over_questions: Estimate
    pass_at_1: float
    vs_static: Estimate
    mean_cost: float
    aiq: float
    seconds: float

    def as_json(self) -> dict[str, float | int | None]:
        """The keys that scripts read."""
        low, high = (None if math.isnan(end) else end for end in (self.score.low, self.score.high))
        return {
            "score": self.score.value,
            "low": low,
            "high": high,
            "low_over_questions": self.over_questions.low,
            "high_over_questions": self.over_questions.high,
            "seconds": self.seconds,
            "seeds": self.score.count,
            "pass_at_1": self.pass_at_1,
            "vs_static": self.vs_static.value,
            "vs_static_low": self.vs_static.low,
            "vs_static_high": self.vs_static.high,
            "mean_cost": self.mean_cost,
            "aiq": self.aiq,
        }


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

    Raises:
        QuestionError: if the split is empty.
    """
    rows = world.rows(split)
    if not len(rows):
        raise QuestionError(f"'{world.card.name}' has no {split} questions.")
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


def score_learner(
    world: RecordedWorld, rows: Choices, chosen: Choices, costs: NDArray[np.float64], static: Program, seconds: float
) -> LearnerScore:
    """Score the programs that a learner chose with some seeds.

    Args:
        world: the world.
        rows: rows of the questions, ``[Q]``.
        chosen: columns of the programs, ``[N, Q]``, a row for each seed.
        costs: executed layers / D of each answer, ``[N, Q]``.
        static: the best static program.
        seconds: to learn once.
    """
    right = world.arrays["right"][rows]
    ours = right[np.arange(len(rows)), chosen].astype(float)  # [N, Q]
    column = world.column(static)
    base, best = right[:, column].astype(float), right.any(1).astype(float)
    room = max(float(best.mean() - base.mean()), 1.0 / len(rows))

    def captured(sums: NDArray[np.float64]) -> float:
        return float((sums[0] - sums[1]) / max(sums[2] - sums[1], 1.0))

    grid = np.linspace(world.costs.min(), world.costs.max(), _GRID)
    hull = frontier(
        np.array([1.0, world.costs[column], costs.mean()]),
        np.array([right[:, 0].mean(), base.mean(), ours.mean()]),
        grid,
    )
    return LearnerScore(
        score=interquartile_mean((ours.mean(1) - base.mean()) / room),
        over_questions=pooled(np.stack([ours.mean(0), base, best], axis=1), captured),
        pass_at_1=float(ours.mean()),
        vs_static=mean(ours.mean(0) - base),
        mean_cost=float(costs.mean()),
        aiq=float(np.maximum(hull, 0.0).mean()),
        seconds=seconds,
    )


def reference_table(scores: Mapping[str, LearnerScore]) -> Table:
    """Learners side by side."""
    return Table(
        ("learner", "headroom captured %, over seeds", "over questions", "pass@1 %", "points over best static",
         "mean layers / D", "AIQ", "seconds", "seeds"),
        [
            (
                name,
                each.score.percent(),
                f"[{100 * each.over_questions.low:.1f}, {100 * each.over_questions.high:.1f}]",
                f"{100 * each.pass_at_1:.1f}",
                each.vs_static.percent(sign=True),
                f"{each.mean_cost:.3f}",
                f"{each.aiq:.3f}",
                f"{each.seconds:.1f}",
                str(each.score.count),
            )
            for name, each in scores.items()
        ],
    )  # fmt: skip
