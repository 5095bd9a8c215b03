"""Two verdicts on one answer: teacher-forced, and by generation with the verifier. How often do they agree?

The first is fast and sees one spelling of the answer only; the second is what a user gets.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from eval.statistics import Estimate, share
from eval.table import Table
from polar_env.program import Program
from polar_env.questions import Question, is_right
from polar_env.runner import Decoding
from polar_env.tables import ShardedTable
from polar_env.worlds import LiveWorld

__all__ = ["VerdictPairs", "agreement", "agreement_table", "compare_verdicts", "written_answers"]

Row = dict[str, Any]
_BATCH = 32
"""Questions that are judged before rows are written."""
_MARGIN = 16
"""Tokens that an answer may have beyond the characters of the gold one."""
_ALL = "all"
"""Task name of the row that counts all tasks together."""
_KINDS = {
    (True, True): "both right",
    (True, False): "only teacher-forced",
    (False, True): "only generated",
    (False, False): "both wrong",
}
"""Column of each pair of verdicts: teacher-forced, generated."""
_PAIR = ("question_id", "program")
_SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("question_id", pa.string()),
        ("task", pa.string()),
        ("program", pa.string()),
        ("answer", pa.string()),
        ("written", pa.string()),
        ("forced", pa.bool_()),
        ("generated", pa.bool_()),
    ]
)


class VerdictPairs(ShardedTable):
    """A folder of both verdicts on the same questions and programs.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _SCHEMA)

    def rows(self) -> list[Row]:
        """All rows, in the order in which they were written.

        Raises:
            TraceError: if a shard is damaged.
        """
        rows: list[Row] = self.table().to_pylist()
        return rows

    def judged(self, method: str) -> set[tuple[str, str]]:
        """Question id and program of every answer of a method that was judged."""
        batches = (batch.filter(pc.field("method") == method) for batch in self.batches([*_PAIR, "method"]))
        return {pair for batch in batches for pair in zip(*(batch[c].to_pylist() for c in _PAIR), strict=True)}


def written_answers(world: LiveWorld, questions: Sequence[Question], programs: Sequence[Program]) -> list[str]:
    """What a program writes in answer to each question, with room for a little more than the gold answer."""
    longest = max((len(question.answer) for question in questions), default=0)
    decoding = Decoding(max_new_tokens=longest + _MARGIN)
    return [one.text.strip() for one in world.generate([q.ask for q in questions], programs, decoding)]


def compare_verdicts(
    world: LiveWorld,
    method: str,
    questions: Sequence[Question],
    programs: Sequence[Program],
    forced: Sequence[bool],
    pairs: VerdictPairs,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Judge what a method's programs write; questions that ``pairs`` has already are left out.

    Args:
        world: generates.
        method: whose programs they are.
        questions: open questions; a choice is judged by likelihood, which generation does not show.
        programs: a program for each question.
        forced: the teacher-forced verdict on each of them.
        pairs: where rows go, a shard for each batch.
        on_progress: called with the number of questions just judged.
    """
    done = pairs.judged(method)
    todo = [row for row in zip(questions, programs, forced, strict=True) if (row[0].id, str(row[1])) not in done]
    todo.sort(key=lambda row: len(row[0].text))  # prompts of like length make batches with little padding
    for batch in (todo[start : start + _BATCH] for start in range(0, len(todo), _BATCH)):
        written = written_answers(world, [q for q, _, _ in batch], [p for _, p, _ in batch])
        pairs.append(
            [
                {
                    "method": method, "question_id": q.id, "task": q.task, "program": str(p), "answer": q.answer,
                    "written": text, "forced": verdict, "generated": is_right(text, q),
                }
                for (q, p, verdict), text in zip(batch, written, strict=True)
            ]
        )  # fmt: skip
        if on_progress is not None:
            on_progress(len(batch))


def agreement(rows: Sequence[Row], method: str) -> Estimate | None:
    """Share of a method's questions on which both verdicts agree, with its Wilson interval; None without questions."""
    agreed = [row["forced"] == row["generated"] for row in rows if row["method"] == method]
    return share(agreed) if agreed else None


def agreement_table(rows: Sequence[Row]) -> Table:
    """How often the two verdicts agree, for each method and task, and how they differ."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["method"], row["task"]].append(row)
        groups[row["method"], _ALL].append(row)
    cells = []
    for (method, task), members in sorted(
        groups.items(), key=lambda item: (item[0][0], item[0][1] == _ALL, item[0][1])
    ):
        agreed = share([row["forced"] == row["generated"] for row in members])
        counts = Counter((row["forced"], row["generated"]) for row in members)
        cells.append((method, task, str(agreed.count), agreed.percent(), *(str(counts[kind]) for kind in _KINDS)))
    return Table(("method", "task", "questions", "agree %, 95 % interval", *_KINDS.values()), cells)
