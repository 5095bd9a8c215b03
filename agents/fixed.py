"""Agents that do not look at the question: the identity, one static program, random programs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from polar_env.program import MAX_BLOCK, Program
from polar_env.questions import Question

__all__ = ["RandomAgent", "StaticAgent", "seeded_rng"]


def seeded_rng(*seeds: object) -> np.random.Generator:
    """A random generator for some numbers, ids or programs: the same in every process and order of work."""
    digest = hashlib.sha256(" ".join(map(str, seeds)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


class StaticAgent:
    """The same program for every question.

    Args:
        program: the program.
        name: name of the row in a report.
    """

    def __init__(self, program: Program, name: str = "static") -> None:
        self.program, self.name = program, name

    def propose(self, questions: Sequence[Question], k: int = 1) -> list[list[Program]]:
        """The program, for each question."""
        return [[self.program] * k for _ in questions]


class RandomAgent:
    """Random programs as long as the identity: one block of 1 to 4 layers skipped, another one repeated.

    Args:
        depth: the model's depth.
        seed: of the pool of programs, and of each question's draw from it.
        pool: number of programs drawn once; few enough for questions to share their work.
    """

    name = "random"

    def __init__(self, depth: int, seed: int = 0, pool: int = 16) -> None:
        self.depth, self.seed = depth, seed
        rng = seeded_rng(seed)
        self.pool = [self._draw(rng) for _ in range(pool)]

    def propose(self, questions: Sequence[Question], k: int = 1) -> list[list[Program]]:
        """``k`` random programs for each question."""
        drawn = [seeded_rng(self.seed, question.id).integers(len(self.pool), size=k) for question in questions]
        return [[self.pool[index] for index in row] for row in drawn]

    def _draw(self, rng: np.random.Generator) -> Program:
        length = int(rng.integers(1, min(MAX_BLOCK, self.depth - 1) + 1))
        skipped = Program.identity(self.depth).skip(int(rng.integers(self.depth - length + 1)), length)
        block = min(length, len(skipped))
        return skipped.repeat(int(rng.integers(len(skipped) - block + 1)), block)
