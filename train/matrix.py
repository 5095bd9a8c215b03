"""Verdict matrices: shared programs on many questions, right and wrong, which is what learners need.

Trees find, for each question, programs that are right for it; most of those are luck. What a policy can learn is which
programs are right for many questions and for which ones. So programs race: all of them on a few questions, the better
half on twice as many, and so on; the survivors are combined with one another, the combinations race against them, and
what survives is evaluated on all questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from pydantic import Field

from polar_env.config import Config
from polar_env.edits import combined
from polar_env.executor import Executor
from polar_env.program import Program, single_edits
from polar_env.questions import Question, mixed_order
from polar_env.stages import IMPORTED, MATRIX, TREE
from train.traces import TraceSet, trace_row

__all__ = ["MatrixConfig", "race"]

_SHRINKAGE = 8.0
"""As many questions without any gain are added to every mean, so that luck on a few does not win."""
_CHUNK = 2048
"""Verdicts in a shard: so much at most is lost when a race is stopped."""

Progress = Callable[[int], None]
"""Called with the number of (question, program) pairs just finished."""


class MatrixConfig(Config):
    """Settings of the race of shared programs."""

    candidates: int = Field(default=0, ge=0)
    """Programs that start: a quarter at most the best of the trees, the rest single edits in random order; 0 takes all
    single edits."""
    survivors: int = Field(default=16, ge=1)
    """Programs that are evaluated on all train questions."""
    first_questions: int = Field(default=50, ge=1)
    """Questions of the first heat; each later heat has twice as many and half the programs."""
    combine: int = Field(default=0, ge=0)
    """Survivors, the best first, whose pairs race against them in the end; 0 combines none."""
    layer_cost: float = Field(default=0.1, ge=0)
    """Reward lost per executed layer / D; the race is for mean verdict minus this."""


def race(
    executor: Executor,
    questions: Sequence[Question],
    traces: TraceSet,
    config: MatrixConfig,
    *,
    held_out: Sequence[Question] = (),
    seed: int = 0,
    on_progress: Progress = lambda _: None,
) -> list[Program]:
    """Race programs over train questions and append all verdicts to the trace set; stopped, it goes on there.

    Args:
        executor: executes programs.
        questions: train questions; the survivors are evaluated on all of them.
        traces: may hold trees, whose best programs take part.
        config: the settings.
        held_out: other questions, on which the survivors are measured, too, so that what the race chose can be judged.
        seed: orders questions and candidates.
        on_progress: see `Progress`.

    Returns:
        The survivors, the identity first.
    """
    identity = executor.llm.identity
    known = traces.table(["question_id", "stage", "program", "right", "layers"])
    known = known.assign(reward=known["right"].astype(float) - config.layer_cost / executor.depth * known["layers"])
    candidates = _candidates(known, identity, config, seed)
    scores = _Scores(executor, traces, config.layer_cost, known, candidates)
    order = mixed_order(questions, seed)
    survivors = _heats(scores, order, candidates, config, on_progress)
    if config.combine > 1:
        # Ranked by the heats alone: a race that was stopped later must come to the same pairs.
        pairs = combinations(survivors[: config.combine], 2)
        grown = [new for a, b in pairs if (new := combined(a, b, executor.depth)) is not None]
        everyone = list(dict.fromkeys([*survivors, *grown]))
        survivors = _heats(scores, order, [p for p in everyone if p != identity], config, on_progress)
    scores.evaluate([*order, *held_out], [identity, *survivors], on_progress)
    return [identity, *survivors]


def _heats(
    scores: _Scores, order: list[Question], programs: list[Program], config: MatrixConfig, on_progress: Progress
) -> list[Program]:
    """The survivors of one race, the best first."""
    count = min(config.first_questions, len(order))
    while len(programs) > config.survivors:
        heat = order[:count]
        scores.evaluate(heat, [scores.identity, *programs], on_progress)
        programs = scores.best(heat, programs, max(config.survivors, math.ceil(len(programs) / 2)))
        count = min(2 * count, len(order))
    return programs


def _candidates(known: pd.DataFrame, identity: Program, config: MatrixConfig, seed: int) -> list[Program]:
    """The trees' best programs, then untried single edits in random order.

    Most of what trees find was right for one question by luck; too many of it would crowd out the single edits.
    """
    edits = list(single_edits(identity))
    np.random.default_rng(seed).shuffle(edits)
    if not config.candidates:
        return edits
    proposed = _best_of_trees(known, identity, config.candidates // 4)
    tried = {str(program) for program in proposed}
    return (proposed + [edit for edit in edits if str(edit) not in tried])[: config.candidates]


def _best_of_trees(known: pd.DataFrame, identity: Program, count: int) -> list[Program]:
    """The programs of trees, ours or imported ones, of largest mean advantage over the questions that have them."""
    trees = known[known["stage"].isin([TREE, IMPORTED])]
    is_base = trees["program"] == str(identity)
    base = trees[is_base].drop_duplicates("question_id").set_index("question_id")["reward"]
    others = trees[~is_base & trees["question_id"].isin(base.index)]
    gains = others["reward"] - base[others["question_id"]].to_numpy()
    of_program = gains.groupby(others["program"], observed=True, sort=False)
    shrunk = of_program.sum() / (of_program.count() + _SHRINKAGE)
    ranked = shrunk.sort_values(ascending=False, kind="stable")
    return [Program.parse(program) for program in ranked.index[:count]]


class _Scores:
    """Rewards of programs relative to the identity's on the same question.

    Args:
        executor: executes what is missing.
        traces: takes in what was executed.
        layer_cost: see `MatrixConfig`.
        known: verdicts of the trace set, with their ``reward``.
        candidates: what trees have measured of these counts, too, beside all that was raced before.
    """

    def __init__(
        self,
        executor: Executor,
        traces: TraceSet,
        layer_cost: float,
        known: pd.DataFrame,
        candidates: Sequence[Program],
    ) -> None:
        self.executor, self.traces, self.cost_of_layer = executor, traces, layer_cost / executor.depth
        self.identity = executor.llm.identity
        names = [str(program) for program in (self.identity, *candidates)]
        known = known[(known["stage"] == MATRIX) | known["program"].isin(names) & (known["stage"] != IMPORTED)]
        pairs = zip(known["question_id"], known["program"], strict=True)
        self.rewards: dict[tuple[str, str], float] = dict(zip(pairs, known["reward"], strict=True))

    def evaluate(self, questions: Sequence[Question], programs: Sequence[Program], on_progress: Progress) -> None:
        """Fill in the verdicts that are missing, a shard for each chunk."""
        names = [(program, str(program)) for program in programs]
        missing = [(q, program) for q in questions for program, name in names if (q.id, name) not in self.rewards]
        for chunk in (missing[i : i + _CHUNK] for i in range(0, len(missing), _CHUNK)):
            verdicts = self.executor.verdicts(chunk)
            rows = [
                trace_row(question, program, verdict, self.executor.depth, stage=MATRIX)
                for (question, program), verdict in zip(chunk, verdicts, strict=True)
            ]
            self.traces.append(rows)
            for row in rows:
                self.rewards[row["question_id"], row["program"]] = row["right"] - self.cost_of_layer * row["layers"]
            on_progress(len(chunk))

    def best(self, questions: Sequence[Question], programs: Sequence[Program], count: int) -> list[Program]:
        """The ``count`` programs of largest mean advantage, shrunk towards 0 where there are few questions."""
        return sorted(programs, key=lambda program: -self._advantage(questions, program))[:count]

    def _advantage(self, questions: Sequence[Question], program: Program) -> float:
        identity, name = str(self.identity), str(program)
        gains = [self.rewards[q.id, name] - self.rewards[q.id, identity] for q in questions]
        return sum(gains) / (len(gains) + _SHRINKAGE)
