"""Recording what programs write: the whole answers of the identity, the best static program and the next best ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from polar_env.errors import NonFiniteError
from polar_env.program import Program
from polar_env.progress import Advance
from polar_env.questions import Question, is_right
from polar_env.runner import Decoding, Generation
from polar_env.tables import ShardedTable, keep_settings
from polar_env.worlds import LiveWorld
from polar_env.worlds.written import WRITTEN
from train.record import settings_of

__all__ = ["best_programs", "write_answers"]

_META = "answers.json"


def best_programs(right: NDArray[np.bool_], questions: Sequence[Question], count: int) -> list[int]:
    """The identity and the programs that are right most often on train and validation questions.

    Args:
        right: verdicts, ``bool [Q, P]``, the identity first.
        questions: the questions, ``Q``.
        count: programs beside the identity.

    Returns:
        Columns.
    """
    chosen = np.array([question.split != "test" for question in questions])
    order = np.argsort(-right[chosen].mean(0), kind="stable")
    return [0, *(int(column) for column in order if column)][: count + 1]


def write_answers(
    world: LiveWorld,
    questions: Sequence[Question],
    programs: Sequence[Program],
    folder: Path,
    *,
    piece: int = 256,
    on_answers: Advance = lambda _: None,
) -> pa.Table:
    """Let programs write their answers to open questions; what the folder has already is left out.

    Args:
        world: executes programs.
        questions: the questions; those of multiple choice are left out, their scores say it all.
        programs: the programs.
        folder: of the recording.
        piece: questions of a shard.
        on_answers: called with the number of answers that were just written.

    Returns:
        Rows of `WRITTEN` of these programs, by question and program; where a program makes no numbers, nothing is
        written.

    Raises:
        FingerprintError: if the folder holds answers of another LLM, prompt or set of questions.
    """
    keep_settings(folder / _META, settings_of(world, questions), "answers", "Delete the files answers* there.")
    table = ShardedTable(folder, WRITTEN, "answers")
    done = {(row["question"], row["program"]) for row in table.table().select(["question", "program"]).to_pylist()}
    texts = {program: str(program) for program in programs}
    for start in range(0, len(questions), piece):
        pairs = [
            (question, program)
            for question in questions[start : start + piece]
            for program in programs
            if not question.choices and (question.id, texts[program]) not in done
        ]
        if not pairs:
            continue
        with world.from_nothing():
            answers = _written(world, pairs)
        table.append([_row(*pair, answer) for pair, answer in zip(pairs, answers, strict=True)])
        on_answers(len(pairs))
    place = {question.id: row for row, question in enumerate(questions)}
    column = {text: number for number, text in enumerate(texts.values())}
    rows = table.table()
    wanted = rows.filter(pc.is_in(rows["program"], pa.array(list(column))))
    keys = zip(wanted["question"].to_pylist(), wanted["program"].to_pylist(), strict=True)
    return wanted.take(np.argsort([place[question] * len(column) + column[program] for question, program in keys]))


def _row(question: Question, program: Program, answer: Generation | None) -> dict[str, Any]:
    """A row of `WRITTEN`."""
    return {
        "question": question.id,
        "program": str(program),
        "text": "" if answer is None else answer.text.strip(),
        "tokens": [] if answer is None else list(answer.tokens),
        "log_probs": [] if answer is None else list(answer.log_probs),
        "ended_by": "no numbers" if answer is None else answer.ended_by,
        "right": answer is not None and is_right(answer.text, question),
    }


def _written(world: LiveWorld, pairs: Sequence[tuple[Question, Program]]) -> list[Generation | None]:
    """What programs write; None where one other than the identity makes no numbers."""
    lengths = [world.prompts[question.task].max_new_tokens for question, _ in pairs]
    written: list[Generation | None] = [None] * len(pairs)
    for length in set(lengths):
        rows = [i for i, each in enumerate(lengths) if each == length]
        for i, answer in zip(rows, _generate(world, [pairs[i] for i in rows], length), strict=True):
            written[i] = answer
    return written


def _generate(world: LiveWorld, pairs: Sequence[tuple[Question, Program]], length: int) -> Sequence[Generation | None]:
    try:
        return world.generate([question.ask for question, _ in pairs], [each for _, each in pairs], Decoding(length))
    except NonFiniteError:
        if len(pairs) > 1:  # one by one, so that the others stand
            return [answer for pair in pairs for answer in _generate(world, [pair], length)]
        if pairs[0][1] == world.identity:
            raise
        return [None]
