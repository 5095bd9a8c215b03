"""The live world: a runner, and the prompt that each task is asked under."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from polar_env.llm.frozen import FrozenLLM
from polar_env.program import Program, one_each
from polar_env.questions import Ask, Prompt, Prompts, Question
from polar_env.runner.answers import Answer
from polar_env.runner.asks import AskRunner
from polar_env.runner.decoding import Decoding, Generation, OnText
from polar_env.runner.runner import Runner
from polar_env.runner.stats import ExecutionStats
from polar_env.runner.verdict import Verdict
from polar_env.worlds.world import ObservedStates

__all__ = ["LiveAsks", "LiveWorld"]


AnyRunner = TypeVar("AnyRunner", AskRunner, Runner)


class _Prompted(Generic[AnyRunner]):
    """What both have: an LLM, and asks that are executed under the prompts of their tasks."""

    runner: AnyRunner

    def __init__(self, runner: AnyRunner, prompts: Prompt | Prompts) -> None:
        self.runner, self.prompts = runner, Prompts.for_all(prompts)

    @property
    def llm(self) -> FrozenLLM:
        """The frozen LLM."""
        return self.runner.llm

    @property
    def depth(self) -> int:
        """The model's depth ``D``."""
        return self.llm.depth

    @property
    def observed(self) -> ObservedStates:
        """Two states of the model's width, each divided by its root mean square, which bounds every number."""
        return ObservedStates(2 * self.llm.width, float(np.sqrt(self.llm.width)) + 1.0)

    @property
    def identity(self) -> Program:
        """The program of the normal pass."""
        return self.llm.identity

    @property
    def programs(self) -> None:
        """Any program can be executed."""
        return None

    @property
    def read_out_flops(self) -> float:
        """Floating-point operations of reading out one token."""
        return self.llm.flops.of_read_out

    def observations(self, pairs: Sequence[tuple[Ask, tuple[int, ...]]]) -> NDArray[np.float32]:
        """What an agent sees of asks after the layers executed so far; see `AskRunner.observations`."""
        return self.runner.observations([(ask, self.prompts[ask.task], layers) for ask, layers in pairs])

    def generate(
        self,
        asks: Sequence[Ask],
        programs: Program | Sequence[Program],
        decoding: Decoding | None = None,
        on_text: OnText | None = None,
    ) -> list[Generation]:
        """Let programs write the answers; see `AskRunner.generate`.

        Raises:
            ProgramError: if there are not as many programs as asks.
        """
        each = one_each(programs, len(asks))
        asked = [(ask, self.prompts[ask.task], program) for ask, program in zip(asks, each, strict=True)]
        return self.runner.generate(asked, decoding, on_text)

    def answers(
        self,
        asks: Sequence[Ask],
        programs: Program | Sequence[Program],
        temperature: float = 0.0,
        seeds: Sequence[int] = (),
    ) -> list[Answer]:
        """What programs answer; see `AskRunner.answers`.

        Raises:
            ProgramError: if there are not as many programs as asks.
        """
        each = one_each(programs, len(asks))
        asked = [(ask, self.prompts[ask.task], program) for ask, program in zip(asks, each, strict=True)]
        return self.runner.answers(asked, temperature, seeds)

    def confidences(self, pairs: Sequence[tuple[Ask, tuple[int, ...]]]) -> NDArray[np.float32]:
        """How sure the LLM is of the next token after the layers executed so far; see `AskRunner.confidences`."""
        return self.runner.confidences([(ask, self.prompts[ask.task], layers) for ask, layers in pairs])

    def answer_flops(self, ask: Ask, program: Program, tokens: int) -> float:
        """Floating-point operations of an answer; see `AskRunner.answer_flops`."""
        return self.runner.answer_flops(ask, self.prompts[ask.task], program, tokens)


class LiveAsks(_Prompted[AskRunner]):
    """Executes programs on asks under a frozen LLM; see `AskWorld`. Agents get this and nothing more.

    Args:
        runner: executes.
        prompts: the prompt of each task, or one for all.
    """


class LiveWorld(_Prompted[Runner]):
    """Executes programs on a frozen LLM; see `World`.

    Args:
        runner: executes; several worlds may share one, and with it all that it remembers.
        prompts: the prompt of each task, or one for all.
    """

    def __init__(self, runner: Runner, prompts: Prompt | Prompts) -> None:
        super().__init__(runner, prompts)
        self.asks = LiveAsks(runner.asks, prompts)
        """What agents may use."""

    @property
    def stats(self) -> ExecutionStats:
        """What was asked of the runner and what it executed."""
        return self.runner.stats

    @property
    def fingerprint(self) -> str:
        """The LLM's fingerprint."""
        return self.llm.fingerprint

    def check(self, questions: Sequence[Question]) -> None:
        """Encode all questions, so that one that does not fit is refused before a run starts.

        Raises:
            QuestionTooLongError: naming the question.
            MemoryBoundError: if the memory bound is too small for one of them; says how much it needs.
        """
        for question in questions:
            self.runner.encode(question, self.prompts[question.task])

    def verdicts(self, pairs: Sequence[tuple[Question, Program]]) -> list[Verdict]:
        """Is the program's answer to the question right? See `Runner.verdicts`."""
        return self.runner.verdicts([(question, self.prompts[question.task], program) for question, program in pairs])

    def remembers(self, question: Question, program: Program) -> bool:
        """Whether a verdict is in memory."""
        return self.runner.remembers(question, self.prompts[question.task], program)

    def text_of(self, tokens: Sequence[int]) -> str:
        """Token ids as text, without special tokens."""
        return str(self.llm.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()

    @contextmanager
    def from_nothing(self) -> Iterator[None]:
        """Inside, everything is really executed once, so that its time is its own; see `Runner.from_nothing`."""
        with self.runner.from_nothing():
            yield
