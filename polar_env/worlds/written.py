"""Answers that programs wrote, token by token, as a recorded world keeps them. No verdict is among them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import pyarrow as pa

from polar_env.program import Program
from polar_env.questions import Ask

__all__ = ["WRITTEN", "WrittenAnswer", "WrittenAnswers"]

WRITTEN = pa.schema(
    [
        ("question", pa.string()),
        ("program", pa.string()),
        ("text", pa.string()),  # null where the questions' texts are kept back
        ("tokens", pa.list_(pa.int32())),  # null likewise
        ("log_probs", pa.list_(pa.float32())),
        ("ended_by", pa.string()),
        ("right", pa.bool_()),
    ]
)
"""Columns of ``answers.parquet``; only judges read ``right``, the verifier's verdict on the text."""


@dataclass(frozen=True)
class WrittenAnswer:
    """What a program wrote by greedy decoding.

    Attributes:
        text: the answer; None where the licence of the questions keeps texts back.
        tokens: its token ids; None likewise.
        log_probs: each token's log-probability in nats.
        ended_by: an end-of-text token, a stop string, or the bound on new tokens; no numbers where the program made
            none, and nothing is written.
    """

    text: str | None
    tokens: tuple[int, ...] | None
    log_probs: tuple[float, ...]
    ended_by: Literal["end", "stop", "length", "no numbers"]


class WrittenAnswers:
    """The answers that some programs wrote, found by ask and program.

    Args:
        rows: rows of `WRITTEN`; verdicts are left out.
    """

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows.drop_columns(["right"])

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    @cached_property
    def _answers(self) -> dict[tuple[str, str], WrittenAnswer]:
        return {
            (row["question"], row["program"]): WrittenAnswer(
                row["text"],
                None if row["tokens"] is None else tuple(row["tokens"]),
                tuple(row["log_probs"]),
                row["ended_by"],
            )
            for row in self._rows.to_pylist()
        }

    def get(self, ask: Ask, program: Program) -> WrittenAnswer | None:
        """What a program wrote; None if it was not recorded."""
        return self._answers.get((ask.id, str(program)))

    def programs(self) -> list[str]:
        """The programs that wrote."""
        return list(self._rows["program"].unique().to_pylist())
