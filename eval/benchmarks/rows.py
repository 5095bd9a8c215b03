"""``polar bench rows``: random programs in one batch beside one by one.

No two rows share a program, so nothing is gained but by running rows that need the same layer together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.benchmarks.figures import Figures
from eval.benchmarks.roofline import Roofline
from eval.benchmarks.timing import time_ratio
from polar_env.actions import Draft, SegmentsLanguage
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.runner import Runner
from polar_env.worlds import LiveWorld

__all__ = ["RowsBenchmark", "measure_rows"]

SIZES = (4, 32, 256)
FEW_SHOT_SIZES = (4, 32, 256)
_ALONE = 8
"""Rows that are run one by one in each round."""


@dataclass(frozen=True)
class RowsBenchmark(Figures):
    """Times as fast as one by one, for each number of rows.

    Attributes:
        speedup_4: four rows, the prompt without its worked examples.
        speedup_32: 32 rows.
        speedup_256: 256 rows.
        few_shot_speedup_4: four rows, the prompt with its examples: most of the work is then to run these under each
            row's own program, which is a batch of its own already. None where the prompt has no examples.
        few_shot_speedup_32: 32 rows.
        few_shot_speedup_256: 256 rows.
        rows_per_second: of 256 rows, the prompt without its examples.
        roofline_share: time of the matrix products of these rows' layers alone, over the time taken.
        layers: mean layers of the programs.
        alone_samples: how many rows were run one by one for each ratio.
    """

    speedup_4: float
    speedup_32: float
    speedup_256: float
    rows_per_second: float
    roofline_share: float
    layers: float
    alone_samples: int
    few_shot_speedup_4: float | None = None
    few_shot_speedup_32: float | None = None
    few_shot_speedup_256: float | None = None


def measure_rows(
    world: LiveWorld, questions: Sequence[Question], seconds: float, note: Callable[[str], None] = lambda _: None
) -> RowsBenchmark:
    """Time batches of random programs of the segments language, a program for each row, from nothing.

    Args:
        world: gives the LLM, the prompt and the memory bound.
        questions: rows take them in turn.
        seconds: about how long each ratio is measured.
        note: told what has been measured.
    """
    rng = np.random.default_rng(0)
    language = SegmentsLanguage(world.depth)
    programs = [_random_program(language, rng) for _ in range(max(SIZES))]
    pairs = [(questions[i % len(questions)], program) for i, program in enumerate(programs)]
    ratios: dict[str, float] = {}
    roofline = Roofline(world.llm)
    given = world.prompts.default
    examples_of = {"": (), "few_shot_": given.examples} if given.examples else {"": ()}
    for name, examples in examples_of.items():
        prompt = given.model_copy(update={"examples": examples})
        one = LiveWorld(Runner(world.llm, world.runner.memory_bytes, threads=world.runner.threads), prompt)
        one.check(questions)
        for size in FEW_SHOT_SIZES if examples else SIZES:
            ratios[f"{name}speedup_{size}"] = _speedup(one, pairs[:size], seconds)
            note(f"{prompt.name}, {size} rows: {ratios[f'{name}speedup_{size}']:.2f} times as fast as one by one")
        if not examples:
            one.runner.clear()
            before = one.stats.copy()
            one.verdicts(pairs)
            done = one.stats.since(before)
            roofline.measure(done.calls)
            rate, share = len(pairs) / done.seconds, roofline.share(done.calls, done.seconds)
    layers = float(np.mean([len(program) for program in programs]))
    return RowsBenchmark(**ratios, rows_per_second=rate, roofline_share=share, layers=layers, alone_samples=_ALONE)


def _random_program(language: SegmentsLanguage, rng: np.random.Generator) -> Program:
    """A program of actions drawn uniformly among the allowed ones."""
    draft = Draft()
    while not draft.finished:
        draft = language.apply(draft, int(rng.choice(np.flatnonzero(language.mask(draft)))))
    return Program(draft.layers)


def _speedup(world: LiveWorld, pairs: list[tuple[Question, Program]], seconds: float) -> float:
    """Rows a second in one batch, over rows a second one by one; both from nothing."""
    alone = pairs[:: max(1, len(pairs) // _ALONE)][:_ALONE]

    def together() -> None:
        world.runner.clear()
        world.verdicts(pairs)

    def one_by_one() -> None:
        for pair in alone:
            world.runner.clear()
            world.verdicts([pair])

    return len(pairs) / len(alone) / time_ratio(together, one_by_one, seconds)
