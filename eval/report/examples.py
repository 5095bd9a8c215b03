"""Which programs a report shows as examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval.evaluate import ORACLE
from eval.summary import IDENTITY
from polar_env.program import Program

__all__ = ["Example", "choose_examples"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """A program that a method chose for a question.

    Attributes:
        method: the method's name.
        question: text of the question.
        gold: the gold answer.
        program: the program.
        layers: executed layers.
        right: the verdict on the program.
        identity_right: the verdict on the identity program, on the same question.
    """

    method: str
    question: str
    gold: str
    program: Program
    layers: int
    right: bool
    identity_right: bool

    @property
    def verdict(self) -> str:
        """Both verdicts in words."""
        return f"{_word(self.right)} (identity {_word(self.identity_right)})"


def choose_examples(rows: Sequence[Row], depth: int, count: int = 8) -> list[Example]:
    """Choose distinct programs that differ from the identity: the trained agents' first, then the oracle's.

    Right answers precede wrong ones, and among them those that the identity gets wrong. A method fills at most half of
    the places.

    Args:
        rows: rows of `eval.evaluate.Results`.
        depth: the model's depth.
        count: the most examples.
    """
    identity = str(Program.identity(depth))
    identity_right = {row["question_id"]: row["right"] for row in rows if row["method"] == IDENTITY}
    trained = [m for m in dict.fromkeys(row["method"] for row in rows) if m not in (IDENTITY, "random", ORACLE)]
    chosen: dict[str, Row] = {}
    places: Counter[str] = Counter()
    for method in [*reversed(trained), ORACLE]:
        candidates = [row for row in rows if row["method"] == method and row["program"] != identity]
        candidates.sort(key=lambda row: (not row["right"], identity_right.get(row["question_id"], False)))
        for row in candidates:
            if row["program"] not in chosen and places[method] < count // 2:
                chosen[row["program"]] = row
                places[method] += 1
    return [
        Example(
            method=row["method"],
            question=row["text"],
            gold=row["answer"],
            program=Program.parse(row["program"]),
            layers=row["layers"],
            right=row["right"],
            identity_right=identity_right.get(row["question_id"], False),
        )
        for row in list(chosen.values())[:count]
    ]


def _word(right: bool) -> str:
    return "right" if right else "wrong"
