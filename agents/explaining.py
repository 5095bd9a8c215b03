"""What an agent considered before it decided, for people: shown in the explorer, read by no method.

Letters: ``K`` decisions of an ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from polar_env.questions import Ask

__all__ = ["Explains", "Option", "Step"]


@dataclass(frozen=True)
class Option:
    """Something that an agent could choose.

    Attributes:
        name: a program, or an action in words.
        probability: that its answer is right, or that the policy takes it.
        layers: layers that choosing it executes; None where that is not decided yet.
    """

    name: str
    probability: float
    layers: int | None = None


@dataclass(frozen=True)
class Step:
    """One decision.

    Attributes:
        saw: what the agent had seen by then, in words.
        options: what it weighed, the chosen one first.
    """

    saw: str
    options: tuple[Option, ...]


@runtime_checkable
class Explains(Protocol):
    """An agent that can say what it weighed."""

    def explain(self, ask: Ask, most: int = 8) -> list[Step]:
        """Its decisions on an ask in order, ``K``, with at most ``most`` options each."""
