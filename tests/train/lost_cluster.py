"""Run as a program: a search on a Ray cluster that somebody else started, one line for each group that is finished."""

from __future__ import annotations

import sys
from pathlib import Path

from agents.search.config import MctsConfig
from polar_env.errors import PolarError
from polar_env.llm import load_llm
from polar_env.questions import Prompt, Question
from polar_env.traces import TraceSet
from tests.worlds import world_of
from train.collect import LocalEngine, search_traces
from train.engines import RayEngine, WorkerSpec

QUESTIONS = [Question.of(f"{n} + {n + 1}", str(2 * n + 1)) for n in range(40)]


def collect(model: str, folder: Path, address: str) -> None:
    """The whole collection; an empty address searches in this process."""
    prompt = Prompt(style="qa")
    world = world_of(load_llm(model), prompt)
    spec = WorkerSpec(model, "float32", "cpu", prompt, 1 << 26, None, threads=1)
    engine = RayEngine(spec, world.llm.fingerprint, 2, address=address) if address else LocalEngine(world)
    traces = TraceSet.create(folder, world, {})
    search_traces(
        engine,
        QUESTIONS,
        traces,
        MctsConfig(simulations=40),
        in_flight=2,
        on_verdicts=lambda count: print(count, flush=True),
    )


if __name__ == "__main__":
    try:
        collect(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
    except PolarError as error:
        sys.exit(str(error))
