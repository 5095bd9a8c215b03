"""What evaluation knows of an agent: it decides which program answers an ask, and nothing shows it an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from polar_env.program import Program
from polar_env.questions import Ask

if TYPE_CHECKING:
    from polar_env.runner import Answer

__all__ = ["Agent", "Decision", "Priced", "Responder", "Response", "seeded_rng"]


@dataclass(frozen=True)
class Decision:
    """An agent's answer to an ask.

    Attributes:
        programs: at least one, best first; only the first counts for pass@1.
        confidences: for each program the calibrated probability that it is right, or None where nobody calibrated it.
        layers: layers executed on the ask only to decide, beyond those that the first program begins with: they come
            on top of the program's cost.
        flops: floating-point operations of the agent itself, without those of the LLM's layers.
    """

    programs: tuple[Program, ...]
    confidences: tuple[float | None, ...]
    layers: int = 0
    flops: float = 0.0

    @classmethod
    def of(cls, *programs: Program, layers: int = 0, flops: float = 0.0) -> Decision:
        """A decision without confidences."""
        return cls(programs, (None,) * len(programs), layers, flops)

    @property
    def program(self) -> Program:
        """The program that counts."""
        return self.programs[0]


@dataclass(frozen=True)
class Response:
    """A method's answer to an ask, and what it executed for that.

    Attributes:
        answer: the answer.
        programs: the programs that were executed, at least one.
        layers: layers executed only to decide, beyond those of the programs.
        flops: floating-point operations of the agent itself, without those of the LLM's layers.
        chosen: which of the programs gave the answer.
    """

    answer: Answer
    programs: tuple[Program, ...]
    layers: int = 0
    flops: float = 0.0
    chosen: int = 0

    @property
    def answered_by(self) -> Program:
        """The program that gave the answer."""
        return self.programs[self.chosen]


class Agent(Protocol):
    """Anything that decides."""

    name: str
    """Shown in reports; an agent's identity is its card or its program."""

    def decide(self, asks: Sequence[Ask]) -> list[Decision]:
        """One decision for each ask; it may depend on nothing but the ask."""


@runtime_checkable
class Priced(Protocol):
    """An agent that weighs what a program is worth against its layers."""

    def at_price(self, price: float) -> Agent:
        """The same agent at another price of D layers, with a name that says so."""


@runtime_checkable
class Responder(Protocol):
    """A method that answers itself, out of several runs of the LLM; whoever chooses one program is an `Agent`."""

    name: str
    """Shown in reports."""

    def respond(self, asks: Sequence[Ask]) -> list[Response]:
        """An answer to each ask; it may depend on nothing but the ask."""


def seeded_rng(*seeds: object) -> np.random.Generator:
    """A random generator for some numbers, ids or programs: the same in every process and order of work."""
    digest = hashlib.sha256(" ".join(map(str, seeds)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
