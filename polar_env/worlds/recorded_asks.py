"""What agents may use of a recorded world: asks, states, confidences; no verdict and no answer is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polar_env.config import Config
from polar_env.errors import PolarError
from polar_env.program import Program, one_each
from polar_env.questions import Ask, Prompts, Question
from polar_env.runner.answers import NO_ANSWER, Answer, of_means, of_tokens
from polar_env.worlds.reduction import Reduction, kept_depth
from polar_env.worlds.world import ObservedStates
from polar_env.worlds.written import WRITTEN, WrittenAnswers

__all__ = ["SCHEMA_VERSION", "NotRecordedError", "RecordedAsks", "Unstable", "WorldCard"]

SCHEMA_VERSION = 1


class NotRecordedError(PolarError, LookupError):
    """A recorded world was asked for what was not recorded."""


class Unstable(Config):
    """How many verdicts are others in another floating-point type, on a sample."""

    pairs: int
    """Pairs of question and program that were executed again."""
    changed: int
    """Pairs whose verdict changed."""


class WorldCard(Config):
    """What a recorded world says of itself."""

    schema_version: int = SCHEMA_VERSION
    """Version of the files' meaning."""
    name: str
    """How the world is called."""
    model: str
    """How the LLM was called."""
    fingerprint: str
    """The fingerprint of the LLM in `dtype`."""
    depth: int
    """The LLM's depth."""
    dtype: str
    """The floating-point type of the LLM that gave the states; agents run in it."""
    verdicts_dtype: str
    """The floating-point type that verdicts, confidences and answers were recorded in, the same or a faster one."""
    device: str
    """Kind of device that the states were recorded on."""
    verdicts_device: str
    """Kind of device that verdicts and confidences were recorded on."""
    versions: dict[str, str]
    """Versions of the libraries that executed."""
    prompts: Prompts
    """The prompts that questions were asked under."""
    sources: list[str]
    """Where the questions come from, as question specs."""
    licence: str
    """Under which licence the questions may be used."""
    programs: list[str]
    """The programs, the identity first."""
    depths: list[int]
    """Layers of the identity after which states are kept."""
    unstable: Unstable | None = None
    """How many verdicts are others in `dtype`; None where they were recorded in it."""
    texts: bool = True
    """Whether the questions' texts are there."""
    files: dict[str, str] = {}  # noqa: RUF012 - pydantic copies defaults
    """The sha256 of each file beside the card, and of the card without this."""


class RecordedAsks:
    """Looks up what an LLM made of asks; see `AskWorld`.

    Letters: ``Q`` asks, ``P`` programs, ``S`` depths at which states are kept, ``K`` components of a state.

    Args:
        card: what the world says of itself.
        asks: the asks.
        arrays: ``codes``, reduced states after prefixes of the identity, ``float16 [Q, S, 2 K]``; ``own``, how sure the
            LLM is of the first token of its own answer, ``float16 [Q, P, 3]``; of multiple choice also ``choices``.
        reduction: makes ``codes`` of a live world's states.
        written: answers that programs wrote; None where none were recorded.
    """

    def __init__(
        self,
        card: WorldCard,
        asks: Sequence[Ask],
        arrays: Mapping[str, NDArray[Any]],
        reduction: Reduction,
        written: WrittenAnswers | None = None,
    ) -> None:
        self.card, self.reduction = card, reduction
        self.written = WrittenAnswers(WRITTEN.empty_table()) if written is None else written
        self.codes, self.own, self.choices = arrays["codes"], arrays["own"], arrays.get("choices")
        self.programs = [Program.parse(text, card.depth) for text in card.programs]
        self._rows = {ask.id: row for row, ask in enumerate(asks)}

    @property
    def depth(self) -> int:
        """The model's depth ``D``."""
        return self.card.depth

    @property
    def identity(self) -> Program:
        """The program of the normal pass."""
        return Program.identity(self.depth)

    @property
    def observed(self) -> ObservedStates:
        """What `observations` consist of."""
        return self.reduction.observed

    @property
    def read_out_flops(self) -> float:
        """Nothing is read out here."""
        return 0.0

    @cached_property
    def _columns(self) -> dict[Program, int]:
        return {program: column for column, program in enumerate(self.programs)}

    def row(self, ask: Ask | Question) -> int:
        """The row of an ask or question.

        Raises:
            NotRecordedError: if it was not recorded.
        """
        row = self._rows.get(ask.id)
        if row is None:
            raise NotRecordedError(
                f"'{self.card.name}' has no question {ask.text!r}; it has {len(self._rows)} others. Record "
                "your own with polar record, or execute live."
            )
        return row

    def column(self, program: Program) -> int:
        """The column of a program.

        Raises:
            NotRecordedError: if it was not recorded.
        """
        column = self._columns.get(program)
        if column is None:
            raise NotRecordedError(
                f"'{self.card.name}' has no program '{program}'; it has {len(self.programs)} others. Record it, too, "
                "with polar record run and --program, or execute live."
            )
        return column

    def observations(self, pairs: Sequence[tuple[Ask, tuple[int, ...]]]) -> NDArray[np.float32]:
        """See `ReducedAsks.observations`, ``float32 [N, 2 K]``."""
        rows = [self.row(ask) for ask, _ in pairs]
        at = [kept_depth(self.card.depths, layers) for _, layers in pairs]
        observed: NDArray[np.float32] = self.codes[rows, at].astype(np.float32)
        return observed

    def confidences(self, pairs: Sequence[tuple[Ask, tuple[int, ...]]]) -> NDArray[np.float32]:
        """How sure the LLM was of the first token of its own answer, ``float32 [N, 3]``."""
        rows = [self.row(ask) for ask, _ in pairs]
        columns = [self.column(Program(layers)) for _, layers in pairs]
        own: NDArray[np.float32] = self.own[rows, columns].astype(np.float32)
        return own

    def answers(
        self,
        asks: Sequence[Ask],
        programs: Program | Sequence[Program],
        temperature: float = 0.0,
        seeds: Sequence[int] = (),
    ) -> list[Answer]:
        """The answers that were recorded: of multiple choice all, of others those of a few programs.

        Raises:
            NotRecordedError: for an answer that was not recorded, or a sampled one.
        """
        if temperature:
            raise NotRecordedError(
                f"'{self.card.name}' holds greedy answers, not sampled ones; execute live for these."
            )
        return [self._answer(ask, program) for ask, program in zip(asks, one_each(programs, len(asks)), strict=True)]

    def _answer(self, ask: Ask, program: Program) -> Answer:
        if ask.choices and self.choices is not None:
            means = self.choices[self.row(ask), self.column(program), : len(ask.choices)].astype(float)
            return of_means(ask.choices, means.tolist()) if np.isfinite(means).all() else NO_ANSWER
        answer = self.written.get(ask, program)
        if answer is None or answer.text is None:
            some = ", ".join(f"'{each}'" for each in self.written.programs()[:3])
            raise NotRecordedError(
                f"'{self.card.name}' holds no written answer of '{program}' to {ask.text!r}; "
                + (f"it holds those of {len(self.written.programs())} programs ({some}, ..). " if some else "")
                + "Execute live for it."
            )
        return of_tokens(answer.text, answer.log_probs) if answer.log_probs else NO_ANSWER
