"""Recorded worlds for tests, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polar_env.program import Program
from polar_env.questions import Question
from polar_env.worlds import LiveWorld, RecordedWorld, open_world, write_world
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
