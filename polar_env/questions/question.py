"""A question, its identity, and the split that it belongs to for ever."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from polar_env.errors import QuestionError

__all__ = ["SPLITS", "Question", "Split", "mixed_order", "normalise", "split_of"]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_SHARES = {"train": 60, "validation": 15, "test": 25}
"""Percent of all question texts that fall into each split."""

_EXPRESSION = re.compile(r"-?\d+(?:\s*[-+*/]\s*-?\d+)+")
"""An arithmetic expression inside a question."""


def normalise(text: str) -> str:
    """Lower-case, with every run of blanks as one; signs stay, since ``4 + 3`` is not ``4 - 3``."""
    return re.sub(r"\s+", " ", text).strip().lower()


def split_of(text: str) -> Split:
    """The split of a question text: a function of the normalised text alone, so splits can never overlap."""
    bucket = int.from_bytes(hashlib.sha256(normalise(text).encode()).digest()[:4], "big") % 100
    if bucket < _SHARES["train"]:
        return "train"
    return "validation" if bucket < _SHARES["train"] + _SHARES["validation"] else "test"


@dataclass(frozen=True)
class Question:
    """One question with its gold answer.

    Attributes:
        text: the question as a person would ask it.
        answer: the gold answer; for a multiple-choice question the text of the gold choice.
        task: the task or skill it belongs to; reports group by it.
        bare: the question as an equation to be continued, e.g. ``"4 + 3 ="``; None where there is none.
        choices: the choices of a multiple-choice question, else empty.
        verifier: name of the verifier that compares a generated answer with the gold one.
        split: the split it belongs to; by default the hash of its text decides.
        difficulty: how hard it is, in the words of its source; empty where nobody said.
    """

    text: str
    answer: str
    task: str = "questions"
    bare: str | None = None
    choices: tuple[str, ...] = ()
    verifier: str = "exact"
    split: Split | None = None
    difficulty: str = ""

    def __post_init__(self) -> None:
        if not self.text.strip() or not self.answer.strip():
            raise QuestionError(f"question {self.text!r} with answer {self.answer!r}: neither may be empty.")
        if self.choices and self.answer not in self.choices:
            raise QuestionError(f"question {self.text!r}: the gold answer {self.answer!r} is none of its choices.")
        if self.split is None:
            object.__setattr__(self, "split", split_of(self.text))

    @classmethod
    def ask(cls, text: str) -> Question:
        """A question whose answer nobody knows: for use, not for training or evaluation."""
        found = _EXPRESSION.search(text)
        return cls(text=text, answer="?", bare=f"{found[0]} =" if found else None)

    @cached_property
    def id(self) -> str:
        """16 hex digits from all that is asked and answered; the same in every run and file."""
        content = "\x1f".join([normalise(self.text), self.bare or "", *self.choices, self.answer])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def text_hash(self) -> str:
        """16 hex digits from the text as it is asked, for files that may not hold the text itself."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

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
