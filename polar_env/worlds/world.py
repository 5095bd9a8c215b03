"""What environments, searches and agents know of where programs are executed.

Letters: ``D`` the model's depth, ``H`` its width, ``N`` pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polar_env.program import Program
from polar_env.questions import Ask, Question
from polar_env.runner.stats import ExecutionStats
from polar_env.runner.verdict import Verdict

__all__ = ["World"]


class World(Protocol):
    """Executes programs. Verdicts want questions; observations are of asks, which hold no answer."""

    @property
    def stats(self) -> ExecutionStats:
        """What was asked for and what was executed."""

    @property
    def depth(self) -> int:
        """The model's depth ``D``."""

    @property
    def width(self) -> int:
        """The model's width ``H``."""

    @property
    def identity(self) -> Program:
        """The program of the normal pass."""

    def check(self, questions: Sequence[Question]) -> None:
        """Refuse questions that cannot be executed, before anything runs.

        Raises:
            QuestionTooLongError, MemoryBoundError: naming the question.
        """

    def verdicts(self, pairs: Sequence[tuple[Question, Program]]) -> list[Verdict]:
        """Is the program's answer to the question right? One verdict for each pair."""

    def remembers(self, question: Question, program: Program) -> bool:
        """Whether a verdict costs nothing any more."""

    def observations(self, pairs: Sequence[tuple[Ask, tuple[int, ...]]]) -> NDArray[np.float32]:
        """What an agent sees of asks after the layers executed so far, ``float32 [N, 2 H]``."""

    def text_of(self, tokens: Sequence[int]) -> str:
        """Token ids as text."""
