"""Where programs are executed, as agents see it, and as environments and searches do.

Letters: ``D`` the model's depth, ``N`` pairs, ``O`` numbers of an observation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from polar_env.program import Program
from polar_env.questions import Ask, Prompts, Question
from polar_env.runner.stats import ExecutionStats
from polar_env.runner.verdict import Verdict

if TYPE_CHECKING:
    from polar_env.runner.answers import Answer

__all__ = ["AskWorld", "ObservedStates", "World"]


class ObservedStates(NamedTuple):
    """What a world shows of hidden states.

    Attributes:
        size: how many numbers ``O`` an observation has.
        bound: no number is further from 0 than this.
    """

    size: int
    bound: float


class AskWorld(Protocol):
    """Executes programs on asks: all that agents may use. Nothing that it holds is an answer."""

    @property
    def depth(self) -> int:
        """The model's depth ``D``."""

    @property
    def observed(self) -> ObservedStates:
        """What `observations` consist of."""

    @property
    def identity(self) -> Program:
        """The program of the normal pass."""

    @property
    def programs(self) -> Sequence[Program] | None:
        """The programs that were recorded; None where any can be executed."""

    @property
    def read_out_flops(self) -> float:
        """Floating-point operations of reading out one token."""

    def observations(self, pairs: Sequence[tuple[Ask, tuple[int, ...]]]) -> NDArray[np.float32]:
        """What an agent sees of asks after the layers executed so far, ``float32 [N, O]``; see `ObservedStates`."""

    def answers(
        self,
        asks: Sequence[Ask],
        programs: Program | Sequence[Program],
        temperature: float = 0.0,
        seeds: Sequence[int] = (),
    ) -> list[Answer]:
        """What a program answers to each ask, as its user gets it; sampled where there is a temperature."""

    def confidences(self, pairs: Sequence[tuple[Ask, tuple[int, ...]]]) -> NDArray[np.float32]:
        """How sure the LLM is of the next token, had it stopped after the layers executed so far, ``float32 [N, 3]``:
        probability of the likeliest one, its lead over the second one's, entropy in nats.
        """


class World(AskWorld, Protocol):
    """Executes programs on asks and judges their answers to questions."""

    @property
    def asks(self) -> AskWorld:
        """The part that agents may use."""

    @property
    def stats(self) -> ExecutionStats:
        """What was asked for and what was executed."""

    @property
    def fingerprint(self) -> str:
        """The LLM's fingerprint."""

    @property
    def prompts(self) -> Prompts:
        """The prompt of each task."""

    def check(self, questions: Sequence[Question]) -> None:
        """Refuse questions that cannot be executed, before anything runs.

        Raises:
            QuestionTooLongError, MemoryBoundError: naming the question.
        """

    def verdicts(self, pairs: Sequence[tuple[Question, Program]]) -> list[Verdict]:
        """Is the program's answer to the question right? One verdict for each pair."""

    def remembers(self, question: Question, program: Program) -> bool:
        """Whether a verdict costs nothing any more."""

    def text_of(self, tokens: Sequence[int]) -> str:
        """Token ids as text."""
