"""Agents that do not read the ask: the identity, one static program (for all asks, or each task), random programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agents.base import Decision, seeded_rng
from agents.card import AgentCard
from polar_env.program import MAX_BLOCK, Program
from polar_env.questions import Ask
from polar_env.worlds import AskWorld

__all__ = ["RandomAgent", "StaticAgent", "TaskStaticAgent", "load_random", "load_static", "load_task_static"]


class StaticAgent:
    """The same program for every ask.

    Args:
        program: the program.
        name: name of the row in a report.
    """

    def __init__(self, program: Program, name: str = "static") -> None:
        self.program, self.name = program, name

    def decide(self, asks: Sequence[Ask]) -> list[Decision]:
        """The program, for each ask."""
        return [Decision.of(self.program)] * len(asks)


class TaskStaticAgent:
    """The same program for every ask of a task: what recognising the task alone can give.

    Args:
        default: the program of a task that has none of its own.
        by_task: the program of each task.
        name: name of the row in a report.
    """

    def __init__(self, default: Program, by_task: Mapping[str, Program], name: str = "static-per-task") -> None:
        self.default, self.by_task, self.name = default, dict(by_task), name

    def decide(self, asks: Sequence[Ask]) -> list[Decision]:
        """The program of each ask's task."""
        return [Decision.of(self.by_task.get(ask.task, self.default)) for ask in asks]


class RandomAgent:
    """Random programs as long as the identity: one block of 1 to 4 layers skipped, another one repeated.

    Args:
        depth: the model's depth.
        seed: of the pool of programs, and with an ask's id of the ask's draw from it.
        pool: number of programs drawn once; few enough for asks to share their work.
        name: name of the row in a report.
    """

    def __init__(self, depth: int, seed: int = 0, pool: int = 16, name: str = "random") -> None:
        self.depth, self.seed, self.name = depth, seed, name
        rng = seeded_rng(seed)
        self.pool = [self._draw(rng) for _ in range(pool)]

    def decide(self, asks: Sequence[Ask]) -> list[Decision]:
        """A random program for each ask, the same one whenever it is asked."""
        return [Decision.of(self.pool[seeded_rng(self.seed, ask.id).integers(len(self.pool))]) for ask in asks]

    def _draw(self, rng: np.random.Generator) -> Program:
        length = int(rng.integers(1, min(MAX_BLOCK, self.depth - 1) + 1))
        skipped = Program.identity(self.depth).skip(int(rng.integers(self.depth - length + 1)), length)
        block = min(length, len(skipped))
        return skipped.repeat(int(rng.integers(len(skipped) - block + 1)), block)


def load_static(folder: Path, card: AgentCard, world: AskWorld) -> StaticAgent:
    """A saved static agent: its card's ``config`` holds the ``program``."""
    return StaticAgent(Program.parse(str(card.setting("program")), world.depth), card.name)


def load_task_static(folder: Path, card: AgentCard, world: AskWorld) -> TaskStaticAgent:
    """A saved static agent of each task: its card's ``config`` holds ``program`` and ``by_task``."""
    by_task = {task: Program.parse(str(text), world.depth) for task, text in card.setting("by_task").items()}
    return TaskStaticAgent(Program.parse(str(card.setting("program")), world.depth), by_task, card.name)


def load_random(folder: Path, card: AgentCard, world: AskWorld) -> RandomAgent:
    """A saved random agent: all of it is its card's seed."""
    return RandomAgent(world.depth, card.seed, name=card.name)
