"""What evaluation knows of an agent: it proposes programs for questions, without seeing their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from polar_env.program import Program
from polar_env.questions import Question

__all__ = ["Agent"]


class Agent(Protocol):
    """Anything that proposes programs."""

    name: str

    def propose(self, questions: Sequence[Question], k: int = 1) -> list[list[Program]]:
        """``k`` programs for each question, best first; only the first counts for pass@1."""
