"""Recorded worlds for tests, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polar_env.program import Program
from polar_env.questions import Prompts, Question, make_prompt
from polar_env.worlds import LiveWorld, RecordedWorld, Reduction, WorldCard, open_world, write_world
from polar_env.worlds.recorded import WORLDS
from train.pack import pack
from train.record import record
from train.states import record_states
from train.written import write_answers


def recorded_world(
    live: LiveWorld, questions: Sequence[Question], programs: Sequence[Program], folder: Path, **options: Any
) -> RecordedWorld:
    """Record questions under programs; the first two programs write. ``options`` are further arguments of `pack`."""
    record(live, questions, programs, folder, piece=10)
    answers = write_answers(live, questions, programs[:2], folder)
    about = {"name": "tiny", "sources": ["made"], "licence": "CC0-1.0"} | options
    return pack(folder, questions, record_states(live, questions, folder), answers=answers, **about)


def part_of_shipped(folder: Path, count: int = 1200) -> RecordedWorld:
    """The first questions of the world that ships, written to a folder: quick to learn from."""
    world = open_world(WORLDS[0])
    card = world.card.model_copy(update={"name": "part"})
    arrays = {name: array[:count] for name, array in world.arrays.items()}
    write_world(RecordedWorld(card, world.questions[:count], arrays, world.reduction), folder)
    return open_world(folder)


def made_world(
    questions: Sequence[Question],
    programs: Sequence[Program],
    right: np.ndarray,
    codes: np.ndarray,
    depths: Sequence[int] = (0,),
) -> RecordedWorld:
    """A world named ``made`` that no LLM was recorded for; the gold answer is likely where a program is right.

    Args:
        questions: ``Q`` questions.
        programs: ``P`` programs, the identity first.
        right: the verdicts, ``bool [Q, P]``.
        codes: the reduced states, ``float16 [Q, S, 2 K]``; the reduction beside them is of random states.
        depths: ``S`` depths at which states are kept.
    """
    components = codes.shape[-1] // 2
    states = np.random.default_rng(0).normal(size=(40, len(depths), 2, 2 * components)).astype(np.float32)
    card = WorldCard(
        name="made", model="m", fingerprint="f", depth=len(programs[0]), dtype="float32", verdicts_dtype="float32",
        device="cpu", verdicts_device="cpu", versions={}, prompts=Prompts.for_all(make_prompt("qa-0", questions)),
        sources=["made"], licence="CC0-1.0", programs=[str(program) for program in programs], depths=list(depths),
    )  # fmt: skip
    arrays = {
        "right": right, "log_prob": np.where(right, -0.1, -3).astype(np.float16),
        "own": np.zeros((*right.shape, 3), np.float16), "codes": codes,
    }  # fmt: skip
    return RecordedWorld(card, questions, arrays, Reduction.fit(states, depths, components))
