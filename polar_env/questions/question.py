"""A question: an ask with its gold answer, the verifier that judges answers, and the split it belongs to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polar_env.errors import QuestionError
from polar_env.questions.ask import Ask
from polar_env.questions.twins import Split, split_of, twin_key

__all__ = ["Question", "mixed_order"]


@dataclass(frozen=True)
class Question:
    """One ask with its gold answer. Only verdicts, search, traces and evaluation see questions.

    Attributes:
        ask: what is asked.
        answer: the gold answer; for a multiple-choice question the text of the gold choice.
        verifier: name of the verifier that compares a generated answer with the gold one.
        split: the split it belongs to; by default the hash of its canonical form decides.
        difficulty: how hard it is, in the words of its source; empty where the source does not say.
        entry: what the source's own scorer needs beside the answer (reasoning-gym's entry), else None.
    """

    ask: Ask
    answer: str
    verifier: str = "exact"
    split: Split | None = None
    difficulty: str = ""
    entry: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.answer.strip():
            raise QuestionError(f"question {self.text!r} with answer {self.answer!r}: the answer may not be empty.")
        if self.choices and self.answer not in self.choices:
            raise QuestionError(f"question {self.text!r}: the gold answer {self.answer!r} is none of its choices.")
        if self.split is None:
            object.__setattr__(self, "split", split_of(twin_key(self.ask)))

    @classmethod
    def of(
        cls,
        text: str,
        answer: str,
        *,
        task: str = "questions",
        equation: str | None = None,
        choices: tuple[str, ...] = (),
        **rest: Any,
    ) -> Question:
        """A question from the parts of its ask, its answer, and the other attributes by name."""
        return cls(Ask(text, task, equation, choices), answer, **rest)

    @property
    def id(self) -> str:
        """The ask's id."""
        return self.ask.id

    @property
    def text(self) -> str:
        """The ask's text."""
        return self.ask.text

    @property
    def task(self) -> str:
        """The ask's task."""
        return self.ask.task

    @property
    def choices(self) -> tuple[str, ...]:
        """The ask's choices."""
        return self.ask.choices

    @property
    def gold(self) -> int:
        """Index of the gold choice; 0 for an open question, whose only candidate is its answer."""
        return self.choices.index(self.answer) if self.choices else 0


def mixed_order(questions: Sequence[Question], seed: int) -> list[Question]:
    """Questions in random order, tasks taking turns, so that any first part holds all tasks."""
    by_task: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_task[question.task].append(question)
    rng = np.random.default_rng(seed)
    keyed = [
        ((position + 0.5) / len(group), task, group[index])
        for task, group in sorted(by_task.items())
        for position, index in enumerate(rng.permutation(len(group)))
    ]
    return [question for _, _, question in sorted(keyed, key=lambda item: item[:2])]
