"""Run as a program: a search that is killed again and again at random moments, and then left to finish.

A child process is forked for each attempt, before anything ran on threads, so that an attempt starts at once.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from agents.search.config import MctsConfig
from polar_env.llm import load_llm
from polar_env.questions import Prompt, Question
from polar_env.runner import VerdictStore
from polar_env.traces import TraceSet
from tests.worlds import world_of
from train.collect import LocalEngine, search_traces
from train.matrix import MatrixConfig, race

QUESTIONS = [Question.of(f"{n} + {n + 1}", str(2 * n + 1)) for n in range(12)]
CONFIG = MctsConfig(simulations=12)
RACE = MatrixConfig(candidates=8, survivors=3, first_questions=4, combine=2)


def collect(model: str, folder: Path) -> None:
    """The whole collection: trees, then the race."""
    torch.set_num_threads(1)
    llm = load_llm(model)
    store = VerdictStore.of(folder / "verdicts", llm)
    world = world_of(llm, Prompt(style="qa"), store=store)
    traces = TraceSet.create(folder / "traces", world, {})
    search_traces(LocalEngine(world), QUESTIONS, traces, CONFIG, in_flight=3)
    race(world, QUESTIONS, traces, RACE)


def main(model: str, folder: Path, kills: int) -> None:
    """Collect again and again into new folders, until so many processes were killed at work; prints the folders.

    A collection that was killed goes on in its folder, to be killed again or to finish.
    """
    rng, number = random.Random(kills), 0
    while kills:
        child = os.fork()
        if not child:
            collect(model, folder / str(number))
            os._exit(0)
        time.sleep(rng.uniform(0.1, 1.0))
        os.kill(child, signal.SIGKILL)
        if os.waitpid(child, 0)[1] == signal.SIGKILL:
            kills -= 1
        else:
            print(folder / str(number))
            number += 1
    collect(model, folder / str(number))
    print(folder / str(number))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
