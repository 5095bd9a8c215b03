"""Collecting traces: a tree search for each question, group by group, appended to a trace set."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from agents.search.config import MctsConfig
from agents.search.lockstep import search
from polar_env.progress import Advance
from polar_env.questions import Question
from polar_env.runner import ExecutionStats
from polar_env.traces import TraceSet
from polar_env.traces.tree import Trace
from polar_env.worlds import World

__all__ = ["Engine", "LocalEngine", "search_traces"]


class Engine(Protocol):
    """Where searches run."""

    stats: ExecutionStats

    def traces(
        self, questions: Sequence[Question], config: MctsConfig, seed: int, in_flight: int, on_verdicts: Advance
    ) -> Iterator[list[Trace]]:
        """Search questions; yields what is finished, in any order. A tree depends on its question and seed alone."""


class LocalEngine:
    """Searches in this process, so many questions in lock step.

    Args:
        world: executes programs.
    """

    def __init__(self, world: World) -> None:
        self.world, self.stats = world, world.stats

    def traces(
        self, questions: Sequence[Question], config: MctsConfig, seed: int, in_flight: int, on_verdicts: Advance
    ) -> Iterator[list[Trace]]:
        """Search group by group."""
        for start in range(0, len(questions), in_flight):
            yield search(self.world, questions[start : start + in_flight], config, seed, on_verdicts)


def search_traces(
    engine: Engine,
    questions: Sequence[Question],
    traces: TraceSet,
    config: MctsConfig,
    *,
    seed: int = 0,
    in_flight: int = 32,
    on_verdicts: Advance = lambda _: None,
) -> int:
    """Search every question that the trace set does not have yet; a shard for each group that is finished.

    What a killed search did for unfinished groups is lost here, but not the verdicts, where the world keeps
    them on disk: the same trees then grow again without executing anything twice.

    Args:
        engine: searches.
        questions: one tree each.
        traces: is appended to.
        config: the settings.
        seed: with a question's id it seeds that question's tree.
        in_flight: questions in lock step; more fill batches better, and the trees are the same.
        on_verdicts: see `Advance`.

    Returns:
        How many questions were searched now.
    """
    done = traces.questions_done()
    todo = [question for question in questions if question.id not in done]
    before, started = engine.stats.copy(), time.perf_counter()
    for finished in engine.traces(todo, config, seed, in_flight, on_verdicts):
        traces.append_traces(finished)
        new, seconds = engine.stats.since(before), time.perf_counter() - started
        before, started = engine.stats.copy(), time.perf_counter()
        traces.add_work(
            simulations=sum(len(trace.verdicts) - 1 for trace in finished),
            asked_tokens=new.asked_tokens,
            executed_tokens=new.executed_tokens,
            layer_executions=new.executed_layers + new.prompt_layers + new.answer_layers,
            seconds=seconds,
        )
    return len(todo)
