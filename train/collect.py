"""Collecting traces: a tree search for each question, then a race of the programs that help over many questions.

Trees find, for each question, programs that are right for it; most of those are luck. What a policy can learn is which
programs are right for many questions and for which ones, so the race evaluates candidates from the trees on more and
more questions, keeps the better half each time, and leaves a whole matrix of verdicts, right and wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from agents.mcts import MctsConfig, Tree, grow
from polar_env.config import Config
from polar_env.executor import Executor, Verdict
from polar_env.program import Program, single_edits
from polar_env.questions import Question, mixed_order
from train.traces import TraceRow, TraceSet, rows_of_tree, trace_row

__all__ = ["RaceConfig", "race", "search_traces"]

Progress = Callable[[int], None]
"""Called with the number of (question, program) pairs just finished."""


class RaceConfig(Config):
    """Settings of the race."""

    candidates: int = Field(default=64, ge=1)
    """Programs that start: a quarter the best of the trees, the rest untried single edits."""
    survivors: int = Field(default=16, ge=1)
    """Programs that are evaluated on all train questions."""
    first_questions: int = Field(default=48, ge=1)
    """Questions of the first heat; each later heat has twice as many and half the programs."""
    layer_cost: float = Field(default=0.1, ge=0)
    """Reward lost per executed layer / D; the race is for mean verdict minus this."""


def search_traces(
    executor: Executor,
    questions: Sequence[Question],
    traces: TraceSet,
    config: MctsConfig,
    *,
    seed: int = 0,
    in_flight: int = 32,
    on_progress: Progress | None = None,
) -> int:
    """Search every question that the trace set does not have yet; a shard for each group in flight.

    Returns:
        How many questions were searched now.
    """
    by_id = {question.id: question for question in questions}
    for row in traces.rows():  # trees are the same each time, so an interrupted one goes on from its known verdicts
        if row["stage"] == "unfinished" and row["question_id"] in by_id:
            verdict = Verdict(row["right"], row["log_prob"])
            executor.remember(by_id[row["question_id"]], Program.parse(row["program"]), verdict)
    done = traces.questions_done("tree")
    todo = [question for question in questions if question.id not in done]
    for start in range(0, len(todo), in_flight):
        trees = [Tree(question, executor.depth, config, seed) for question in todo[start : start + in_flight]]
        try:
            grow(executor, trees, on_progress)
        except KeyboardInterrupt:
            traces.append([row for tree in trees for row in rows_of_tree(tree, stage="unfinished")])
            raise
        traces.append([row for tree in trees for row in rows_of_tree(tree)])
    return len(todo)


@dataclass
class _Scores:
    """Rewards of programs relative to the identity's on the same question."""

    executor: Executor
    traces: TraceSet
    layer_cost: float
    rows: dict[tuple[str, Program], TraceRow]

    def evaluate(
        self, questions: Sequence[Question], programs: Sequence[Program], on_progress: Progress | None
    ) -> None:
        """Fill in the verdicts that are missing; each chunk is a shard, so that an interrupted race goes on there."""
        missing = [(q, p) for q in questions for p in programs if (q.id, p) not in self.rows]
        for chunk in (missing[i : i + 2048] for i in range(0, len(missing), 2048)):
            verdicts = self.executor.verdicts(chunk)
            rows = [
                trace_row(question, program, verdict, self.executor.depth, visits=0, stage="race")
                for (question, program), verdict in zip(chunk, verdicts, strict=True)
            ]
            self.traces.append(rows)
            self.rows.update({(q.id, p): row for (q, p), row in zip(chunk, rows, strict=True)})
            if on_progress is not None:
                on_progress(len(chunk))

    def best(self, questions: Sequence[Question], programs: Sequence[Program], count: int) -> list[Program]:
        """The ``count`` programs of largest mean advantage, shrunk towards 0 where there are few questions."""
        return sorted(programs, key=lambda p: -self._advantage(questions, p))[:count]

    def _advantage(self, questions: Sequence[Question], program: Program) -> float:
        identity = self.executor.llm.identity
        gains = []
        for question in questions:
            row, base = self.rows.get((question.id, program)), self.rows.get((question.id, identity))
            if row is not None and base is not None:
                saved = self.layer_cost * (base["cost"] - row["cost"])
                gains.append(float(row["right"]) - float(base["right"]) + saved)
        return float(sum(gains)) / (len(gains) + _SHRINKAGE)


_SHRINKAGE = 8.0
"""As many questions without any gain are added to every mean, so that luck on a few does not win."""


def race(
    executor: Executor,
    questions: Sequence[Question],
    traces: TraceSet,
    config: RaceConfig,
    *,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> list[Program]:
    """Race the trees' best programs over train questions and append all verdicts to the trace set.

    Args:
        executor: executes programs.
        questions: train questions; the survivors are evaluated on all of them.
        traces: the trees' traces; gets a shard for each 2,048 verdicts.
        config: the settings.
        seed: orders the questions.
        on_progress: see `Progress`.

    Returns:
        The survivors, the identity first.
    """
    by_id = {question.id: question for question in questions}
    rows = {(row["question_id"], Program.parse(row["program"])): row for row in traces.rows()}
    scores = _Scores(executor, traces, config.layer_cost, rows)
    identity = executor.llm.identity
    searched = {key: row for key, row in rows.items() if row["stage"] != "race"}
    programs = _candidates(replace(scores, rows=searched), by_id, identity, config.candidates, seed)
    order = mixed_order(questions, seed)
    count = min(config.first_questions, len(order))
    while True:
        last = len(programs) <= config.survivors
        heat = order if last else order[:count]
        scores.evaluate(heat, [identity, *programs], on_progress)
        if last:
            return [identity, *programs]
        programs = scores.best(heat, programs, max(config.survivors, math.ceil(len(programs) / 2)))
        count = min(2 * count, len(order))


def _candidates(scores: _Scores, by_id: dict[str, Question], identity: Program, count: int, seed: int) -> list[Program]:
    """The trees' best programs, a quarter at most, then untried single edits in random order.

    Most of what trees find was right for one question by luck; too many of it would crowd out the single edits.
    """
    tried = dict.fromkeys(program for _, program in scores.rows if program != identity)
    distinct = [by_id[i] for i in dict.fromkeys(i for i, _ in scores.rows) if i in by_id]
    best = scores.best(distinct, list(tried), count // 4)
    rest = [edit for edit in single_edits(identity) if edit not in tried]
    np.random.default_rng(seed).shuffle(rest)
    return (best + rest)[:count]
