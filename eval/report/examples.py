"""Which programs and which questions a report shows as examples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pandas as pd

from eval.methods import BEST_STATIC, IDENTITY, ORACLE
from eval.summary import Summary
from polar_env.program import Program

__all__ = ["Contrast", "Example", "choose_examples", "contrasts"]


@dataclass(frozen=True)
class Example:
    """A program that a method chose for a question.

    Attributes:
        method: the method's name.
        question: text of the question.
        gold: the gold answer.
        program: the program.
        layers: executed layers.
        right: whether its answer is right.
        identity_right: whether the identity's answer to the same question is.
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


@dataclass(frozen=True)
class Contrast:
    """A question on which a method and the baseline differ, with both answers.

    Attributes:
        won: whether the method is the one that is right.
        question: text of the question.
        gold: the gold answer.
        answer: the method's answer.
        base_answer: the baseline's.
        program: the method's program.
        base_program: the baseline's.
    """

    won: bool
    question: str
    gold: str
    answer: str
    base_answer: str
    program: str
    base_program: str


def choose_examples(rows: pd.DataFrame, depth: int, count: int = 8) -> list[Example]:
    """Choose distinct programs that differ from the identity: the last methods' first, then the oracle's.

    Right answers precede wrong ones, and among them those that the identity gets wrong. A method fills at most half of
    the places.

    Args:
        rows: rows of `eval.results.Results`.
        depth: the model's depth.
        count: the most examples.
    """
    identity = rows[rows["method"] == IDENTITY].set_index("question_id")["right"]
    rows = rows.assign(identity_right=rows["question_id"].map(identity).fillna(False).astype(bool))
    rows = rows[(rows["program"] != str(Program.identity(depth))) & (rows["method"] != "random")]
    methods = [name for name in rows["method"].unique() if name != ORACLE]
    chosen: dict[str, Example] = {}
    places: Counter[str] = Counter()
    for method in [*reversed(methods), ORACLE]:
        candidates = rows[rows["method"] == method].drop_duplicates(["program", "right", "identity_right"])
        ranked = candidates.assign(wrong=~candidates["right"]).sort_values(["wrong", "identity_right"], kind="stable")
        for row in ranked.itertuples():
            if row.program not in chosen and places[method] < count // 2:
                program = Program.parse(row.program)
                chosen[row.program] = Example(
                    method, row.text, row.gold, program, row.layers, row.right, row.identity_right
                )
                places[method] += 1
    return list(chosen.values())[:count]


def contrasts(rows: pd.DataFrame, summary: Summary, count: int = 6) -> tuple[str, str, list[Contrast]]:
    """Questions won and lost by the last agent against the best static program, or by that against the identity.

    Args:
        rows: rows of `eval.results.Results`.
        summary: names the methods.
        count: the most questions of each kind.

    Returns:
        The method's and the baseline's name, and the questions, those won first.
    """
    peers = [name for name in (*summary.agents[:1], BEST_STATIC, IDENTITY) if name in summary.methods]
    if len(peers) < 2:
        return IDENTITY, IDENTITY, []
    method, base = peers[:2]
    ours, theirs = (rows[rows["method"] == name].set_index("question_id") for name in (method, base))
    both = ours.join(theirs[["right", "answer", "program"]].add_suffix("_base"), how="inner")
    shown = []
    for won in (True, False):
        some = both[(both["right"] == won) & (both["right_base"] != won)].head(count)
        shown += [
            Contrast(won, row.text, row.gold, row.answer, row.answer_base, row.program, row.program_base)
            for row in some.itertuples()
        ]
    return method, base, shown


def _word(right: bool) -> str:
    return "right" if right else "wrong"
