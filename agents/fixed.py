"""Agents that do not look at the question: the identity, one static program, random programs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from polar_env.program import MAX_BLOCK, Program
from polar_env.questions import Question

__all__ = ["RandomAgent", "StaticAgent", "question_rng"]


def question_rng(seed: int, question: Question) -> np.random.Generator:
    """A random generator of this question's own, the same whatever else is being worked on."""
    digest = hashlib.sha256(f"{seed} {question.id}".encode()).digest()
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
        seed: each question draws from a generator of its own.
    """

    name = "random"

    def __init__(self, depth: int, seed: int = 0) -> None:
        self.depth, self.seed = depth, seed

    def propose(self, questions: Sequence[Question], k: int = 1) -> list[list[Program]]:
        """``k`` random programs for each question."""
        return [[self._draw(rng) for _ in range(k)] for rng in (question_rng(self.seed, q) for q in questions)]

    def _draw(self, rng: np.random.Generator) -> Program:
        length = int(rng.integers(1, min(MAX_BLOCK, self.depth - 1) + 1))
        skipped = Program.identity(self.depth).skip(int(rng.integers(self.depth - length + 1)), length)
        block = min(length, len(skipped))
        return skipped.repeat(int(rng.integers(len(skipped) - block + 1)), block)
