"""Run as a program: a search or a recording that is killed again and again at random moments, and left to finish.

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
from polar_env.program import single_edits
from polar_env.questions import Prompt, Question
from polar_env.runner import VerdictStore
from polar_env.traces import TraceSet
from polar_env.worlds import write_world
from tests.worlds import world_of
from train.collect import LocalEngine, search_traces
from train.matrix import MatrixConfig, race
from train.pack import pack
from train.record import record
from train.states import record_states
from train.written import write_answers

QUESTIONS = [Question.of(f"{n} + {n + 1}", str(2 * n + 1)) for n in range(12)]
RECORDED = [
    Question.of(f"{n} + {n + 1}", str(2 * n + 1), split=("train", "validation", "test")[n % 3]) for n in range(24)
]
CONFIG = MctsConfig(simulations=12)
RACE = MatrixConfig(candidates=8, survivors=3, first_questions=4, combine=2)


def collect(model: str, folder: Path) -> None:
    """The whole collection: trees, then the race."""
    llm = load_llm(model)
    store = VerdictStore.of(folder / "verdicts", llm)
    world = world_of(llm, Prompt(style="qa"), store=store)
    traces = TraceSet.create(folder / "traces", world, {})
    search_traces(LocalEngine(world), QUESTIONS, traces, CONFIG, in_flight=3)
    race(world, QUESTIONS, traces, RACE)


def record_world(model: str, folder: Path) -> None:
    """The whole recording: tiles, then answers, then the world."""
    world = world_of(load_llm(model), Prompt(style="qa", max_new_tokens=4))
    programs = [world.identity, *single_edits(world.identity)]
    record(world, RECORDED, programs, folder / "recording", piece=4, block=8)
    answers = write_answers(world, RECORDED, programs[:3], folder / "recording", piece=4)
    states = record_states(world, RECORDED, folder / "recording", piece=4)
    about = {"name": "killed", "sources": ["made"], "licence": "CC0-1.0"}
    packed = pack(folder / "recording", RECORDED, states, components=3, answers=answers, **about)
    write_world(packed, folder / "world")


WORK = {"search": collect, "record": record_world}


def main(work: str, model: str, folder: Path, kills: int) -> None:
    """Work again and again into new folders, until so many processes were killed at work; prints the folders.

    Work that was killed goes on in its folder, to be killed again or to finish.
    """
    torch.set_num_threads(1)
    rng, number = random.Random(kills), 0
    while kills:
        child = os.fork()
        if not child:
            WORK[work](model, folder / str(number))
            os._exit(0)
        time.sleep(rng.uniform(0.05, 0.6))
        os.kill(child, signal.SIGKILL)
        if os.waitpid(child, 0)[1] == signal.SIGKILL:
            kills -= 1
        else:
            print(folder / str(number))
            number += 1
    WORK[work](model, folder / str(number))
    print(folder / str(number))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
