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
from polar_env.executor import Executor
from polar_env.executor.store import VerdictStore
from polar_env.llm import load_llm
from polar_env.questions import Prompt, Question
from train.collect import LocalEngine, search_traces
from train.matrix import MatrixConfig, race
from train.traces import TraceSet

QUESTIONS = [Question(text=f"{n} + {n + 1}", answer=str(2 * n + 1)) for n in range(12)]
CONFIG = MctsConfig(simulations=12)
RACE = MatrixConfig(candidates=8, survivors=3, first_questions=4, combine=2)


def collect(model: str, folder: Path) -> None:
    """The whole collection: trees, then the race."""
    torch.set_num_threads(1)
    llm = load_llm(model)
    store = VerdictStore(folder / "verdicts", llm.fingerprint, llm.dtype_name)
    executor = Executor(llm, Prompt(style="qa"), store=store)
    traces = TraceSet.create(folder / "traces", executor, {})
    search_traces(LocalEngine(executor), QUESTIONS, traces, CONFIG, in_flight=3)
    race(executor, QUESTIONS, traces, RACE)


def main(model: str, folder: Path, kills: int) -> None:
    """Kill the collection so many times, then let it finish; prints how many of the kills met it at work."""
    rng, met = random.Random(kills), 0
    for attempt in range(kills + 1):
        child = os.fork()
        if not child:
            collect(model, folder)
            os._exit(0)
        if attempt < kills:
            time.sleep(rng.uniform(0.1, 1.5))
            os.kill(child, signal.SIGKILL)
        met += os.waitpid(child, 0)[1] == signal.SIGKILL
    print(met)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
