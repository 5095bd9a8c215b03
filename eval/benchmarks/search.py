"""``polar bench search``: trees in lock step beside one tree after the other, and beside matrix products alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents.search.config import MctsConfig
from agents.search.lockstep import search
from eval.benchmarks.figures import Figures
from eval.benchmarks.roofline import Roofline
from polar_env.executor import Executor
from polar_env.questions import Question

__all__ = ["SearchBenchmark", "measure_search"]

_ALONE = 4
"""Questions that are also searched one after the other."""


@dataclass(frozen=True)
class SearchBenchmark(Figures):
    """What a search costs.

    Attributes:
        simulations_per_second: programs evaluated a second over all trees, from nothing.
        known_per_second: the same where all verdicts are in memory and no layer runs: what the trees themselves cost.
        lock_step_speedup: the same over that of one tree after the other, step by step, on some of the questions.
        virtual_loss_speedup: one tree with 32 programs a round, over the same tree step by step.
        roofline_share: time of the matrix products of the layer executions really done, over the time taken.
        token_layers: tokens through layers, for each program evaluated, by which other machines can be estimated.
        layer_calls: calls of a layer, for each program evaluated; each takes the rows of many programs.
        sharing: tokens through layers had each pair been executed alone, over those really done.
        questions: trees in lock step.
        simulations: programs evaluated per tree, besides the identity.
    """

    simulations_per_second: float
    known_per_second: float
    lock_step_speedup: float
    virtual_loss_speedup: float
    roofline_share: float
    token_layers: float
    layer_calls: float
    sharing: float
    questions: int
    simulations: int


def measure_search(
    executor: Executor,
    questions: Sequence[Question],
    config: MctsConfig,
    note: Callable[[str], None] = lambda _: None,
) -> SearchBenchmark:
    """Search the questions in lock step, and some of them alone.

    Args:
        executor: measured from nothing.
        questions: one tree each.
        config: the search's settings.
        note: told what has been measured.
    """
    roofline = Roofline(executor.llm)
    executor.verdicts([(questions[0], executor.llm.identity)])  # warms up
    alone: list[float] = []
    filled: list[float] = []
    for question in questions[:_ALONE]:
        for rates, rows in ((alone, config.rows), (filled, 32)):
            with executor.from_nothing():
                rates.append(_rate(executor, [question], config.model_copy(update={"rows": rows}))[0])
        note(f"one tree: {alone[-1]:.1f} programs/s, with 32 rows a round {filled[-1]:.1f}")
    before = executor.stats.copy()
    with executor.from_nothing():
        rate, seconds = _rate(executor, questions, config)
        steps = executor.stats.since(before)
        known_rate, _ = _rate(executor, questions, config)
    roofline.measure(steps.calls, samples=5)
    note(f"{len(questions)} trees in lock step: {rate:.1f} programs/s, where all are known {known_rate:.0f}")
    mean = sum(alone) / len(alone)
    return SearchBenchmark(
        simulations_per_second=rate,
        known_per_second=known_rate,
        lock_step_speedup=rate / mean,
        virtual_loss_speedup=sum(filled) / len(filled) / mean,
        roofline_share=roofline.share(steps.calls, seconds),
        token_layers=steps.executed_tokens / steps.verdicts,
        layer_calls=steps.calls.total() / steps.verdicts,
        sharing=steps.sharing,
        questions=len(questions),
        simulations=config.simulations,
    )


def _rate(executor: Executor, questions: Sequence[Question], config: MctsConfig) -> tuple[float, float]:
    """Programs evaluated a second, and the seconds."""
    verdicts, started = executor.stats.verdicts, time.perf_counter()
    search(executor, questions, config)
    seconds = time.perf_counter() - started
    return (executor.stats.verdicts - verdicts) / seconds, seconds
