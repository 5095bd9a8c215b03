"""Verdict matrices: shared programs on many questions, right and wrong, which is what learners need.

Trees find, for each question, programs that are right for it; most of those are luck. What a policy can learn is which
programs are right for many questions and for which ones. So programs race: all of them on a few questions, the better
half on twice as many, and so on; the survivors are combined with one another, the combinations race against them, and
what survives is evaluated on all questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from polar_env.edits import combined
from polar_env.program import Program, single_edits
from polar_env.progress import Advance
from polar_env.questions import Question, mixed_order
from polar_env.traces import TraceSet, VerdictRow
from polar_env.traces.stages import IMPORTED, MATRIX, TREE
from polar_env.worlds import LiveWorld
from train.config import MatrixConfig

__all__ = ["count_verdicts", "race"]

_SHRINKAGE = 8.0
"""As many questions without any gain are added to every mean, so that luck on a few does not win."""
_CHUNK = 2048
"""Verdicts in a shard: so much at most is lost when a race is stopped."""


def race(
    world: LiveWorld,
    questions: Sequence[Question],
    traces: TraceSet,
    config: MatrixConfig,
    *,
    held_out: Sequence[Question] = (),
    seed: int = 0,
    on_verdicts: Advance = lambda _: None,
) -> list[Program]:
    """Race programs over train questions and append all verdicts to the trace set; stopped, it goes on there.

    Args:
        world: executes programs.
        questions: train questions; the survivors are evaluated on all of them.
        traces: may hold trees, whose best programs take part.
        config: the settings.
        held_out: other questions, on which the survivors are measured, too, so that what the race chose can be judged.
        seed: orders questions and candidates.
        on_verdicts: see `Advance`.

    Returns:
        The survivors, the identity first.
    """
    identity = world.identity
    measured = traces.table(["question_id", "stage", "program", "right", "layers"])
    measured = measured.assign(
        reward=measured["right"].astype(float) - config.layer_cost / world.depth * measured["layers"]
    )
    candidates = _candidates(measured, identity, config, seed)
    scores = _Scores(world, traces, config.layer_cost, measured, candidates)
    order = mixed_order(questions, seed)
    survivors = _heats(scores, order, candidates, config, on_verdicts)
    # Ranked by the heats alone: a race that was stopped later must come to the same combinations.
    rounds = [config.combine] * (config.combine > 1) + [0] * config.grow
    for most in rounds:
        pairs = combinations(survivors[:most], 2) if most else [(survivors[0], other) for other in survivors[1:]]
        grown = [new for a, b in pairs if (new := combined(a, b, world.depth)) is not None]
        everyone = list(dict.fromkeys([*survivors, *grown]))
        survivors = _heats(scores, order, [p for p in everyone if p != identity], config, on_verdicts)
    scores.evaluate([*order, *held_out], [identity, *survivors], on_verdicts)
    return [identity, *survivors]


def count_verdicts(config: MatrixConfig, questions: int, held_out: int, edits: int) -> int:
    """About how many verdicts a race asks for, before it is run; see `race`. Trees may have asked for some of them.

    Args:
        config: the settings.
        questions: how many train questions.
        held_out: how many held-out ones.
        edits: how many single edits there are.
    """
    if not questions:
        return 0
    first = min(config.first_questions, questions)
    count, heat, seen, programs = 0, first, 0, min(config.candidates or edits, edits)
    while programs > config.survivors or not seen:
        count += (programs + 1) * (heat - seen)
        programs, seen, heat = (
            min(programs, max(config.survivors, math.ceil(programs / 2))),
            heat,
            min(2 * heat, questions),
        )
    pairs = [math.comb(min(config.combine, programs), 2)] * (config.combine > 1) + [programs - 1] * config.grow
    return count + first * sum(pairs) + (programs + 1) * (questions - seen + held_out)


def _heats(
    scores: _Scores, order: list[Question], programs: list[Program], config: MatrixConfig, on_verdicts: Advance
) -> list[Program]:
    """The survivors of one race, the best first; at least one heat ranks them."""
    count, ranked = min(config.first_questions, len(order)), False
    while len(programs) > config.survivors or (programs and not ranked):
        heat = order[:count]
        scores.evaluate(heat, [scores.identity, *programs], on_verdicts)
        programs = scores.best(heat, programs, max(config.survivors, math.ceil(len(programs) / 2)))
        count, ranked = min(2 * count, len(order)), True
    return programs


def _candidates(measured: pd.DataFrame, identity: Program, config: MatrixConfig, seed: int) -> list[Program]:
    """The trees' best programs, then untried single edits in random order.

    Most of what trees find was right for one question by luck; too many of it would crowd out the single edits.
    """
    edits = list(single_edits(identity))
    np.random.default_rng(seed).shuffle(edits)
    if not config.candidates:
        return edits
    proposed = _best_of_trees(measured, identity, config.candidates // 4)
    tried = {str(program) for program in proposed}
    return (proposed + [edit for edit in edits if str(edit) not in tried])[: config.candidates]


def _best_of_trees(measured: pd.DataFrame, identity: Program, count: int) -> list[Program]:
    """The programs of trees, ours or imported ones, of largest mean advantage over the questions that have them."""
    trees = measured[measured["stage"].isin([TREE, IMPORTED])]
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
        world: executes what is missing.
        traces: takes in what was executed.
        layer_cost: see `MatrixConfig`.
        measured: verdicts of the trace set, with their ``reward``.
        candidates: what trees have measured of these counts, too, beside all that was raced before.
    """

    def __init__(
        self,
        world: LiveWorld,
        traces: TraceSet,
        layer_cost: float,
        measured: pd.DataFrame,
        candidates: Sequence[Program],
    ) -> None:
        self.world, self.traces, self.cost_of_layer = world, traces, layer_cost / world.depth
        self.identity = world.identity
        names = [str(program) for program in (self.identity, *candidates)]
        of_race = measured["stage"] == MATRIX
        measured = measured[of_race | measured["program"].isin(names) & (measured["stage"] != IMPORTED)]
        pairs = zip(measured["question_id"], measured["program"], strict=True)
        self.rewards: dict[tuple[str, str], float] = dict(zip(pairs, measured["reward"], strict=True))

    def evaluate(self, questions: Sequence[Question], programs: Sequence[Program], on_verdicts: Advance) -> None:
        """Fill in the verdicts that are missing, a shard for each chunk."""
        names = [(program, str(program)) for program in programs]
        missing = [(q, program) for q in questions for program, name in names if (q.id, name) not in self.rewards]
        for chunk in (missing[i : i + _CHUNK] for i in range(0, len(missing), _CHUNK)):
            verdicts = self.world.verdicts(chunk)
            rows = [
                VerdictRow.of(question, program, verdict, self.world.depth, stage=MATRIX)
                for (question, program), verdict in zip(chunk, verdicts, strict=True)
            ]
            self.traces.append(rows)
            for row in rows:
                self.rewards[row.question_id, row.program] = row.right - self.cost_of_layer * row.layers
            on_verdicts(len(chunk))

    def best(self, questions: Sequence[Question], programs: Sequence[Program], count: int) -> list[Program]:
        """The ``count`` programs of largest mean advantage, shrunk towards 0 where there are few questions."""
        return sorted(programs, key=lambda program: -self._advantage(questions, program))[:count]

    def _advantage(self, questions: Sequence[Question], program: Program) -> float:
        identity, name = str(self.identity), str(program)
        gains = [self.rewards[q.id, name] - self.rewards[q.id, identity] for q in questions]
        return sum(gains) / (len(gains) + _SHRINKAGE)
