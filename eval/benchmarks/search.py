"""``polar bench search``: trees in lock step beside one tree after the other, and beside matrix products alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents.search.config import MctsConfig
from agents.search.lockstep import search
from eval.benchmarks.figures import Figures
from eval.benchmarks.roofline import Roofline
from polar_env.questions import Question
from polar_env.worlds import LiveWorld

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
    world: LiveWorld,
    questions: Sequence[Question],
    config: MctsConfig,
    note: Callable[[str], None] = lambda _: None,
) -> SearchBenchmark:
    """Search the questions in lock step, and some of them alone.

    Args:
        world: measured from nothing.
        questions: one tree each.
        config: the search's settings.
        note: told what has been measured.
    """
    roofline = Roofline(world.llm)
    world.verdicts([(questions[0], world.identity)])  # warms up
    alone: list[float] = []
    filled: list[float] = []
    for question in questions[:_ALONE]:
        for rates, rows in ((alone, config.rows), (filled, 32)):
            with world.from_nothing():
                rates.append(_rate(world, [question], config.model_copy(update={"rows": rows}))[0])
        note(f"one tree: {alone[-1]:.1f} programs/s, with 32 rows a round {filled[-1]:.1f}")
    before = world.stats.copy()
    with world.from_nothing():
        rate, seconds = _rate(world, questions, config)
        steps = world.stats.since(before)
        known_rate, _ = _rate(world, questions, config)
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


def _rate(world: LiveWorld, questions: Sequence[Question], config: MctsConfig) -> tuple[float, float]:
    """Programs evaluated a second, and the seconds."""
    verdicts, started = world.stats.verdicts, time.perf_counter()
    search(world, questions, config)
    seconds = time.perf_counter() - started
    return (world.stats.verdicts - verdicts) / seconds, seconds
