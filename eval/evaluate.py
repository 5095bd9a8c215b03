"""Measuring agents on held-out questions: one row for each question and method, appended while running."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from agents.base import Agent
from agents.search.config import MctsConfig
from agents.search.lockstep import search
from agents.search.trace import best_programs
from polar_env.errors import FingerprintError, LeakError
from polar_env.executor import Executor
from polar_env.questions import Question, normalise
from polar_env.tables import ShardedTable, write_whole

__all__ = ["ORACLE", "Results", "evaluate", "evaluate_oracle", "refuse_leaks"]

ORACLE = "oracle"
"""Method name of the search that sees the gold answer: an upper bound, never a result."""
_BATCH = 32
"""Questions that are proposed for and executed together (the batch size of the protocol's timing)."""
_META = "results.json"
_SCHEMA = pa.schema(
    [
        ("method", pa.string()),
        ("question_id", pa.string()),
        ("task", pa.string()),
        ("text", pa.string()),
        ("answer", pa.string()),
        ("program", pa.string()),
        ("right", pa.bool_()),
        ("layers", pa.int32()),
        ("cost", pa.float32()),
        ("log_prob", pa.float32()),
        ("seconds", pa.float32()),
        ("programs_tried", pa.int32()),
    ]
)


class Results(ShardedTable):
    """A folder of results of one model, prompt and set of questions.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _SCHEMA)

    def begin(self, executor: Executor, questions: Sequence[Question], config: dict[str, Any]) -> None:
        """Start, or go on where an interrupted evaluation of the same things stopped.

        Raises:
            FingerprintError: if results of another model, prompt or set of questions lie here.
        """
        meta = {
            "model": executor.llm.name,
            "fingerprint": executor.llm.fingerprint,
            "depth": executor.depth,
            "dtype": executor.llm.dtype_name,
            "prompt": executor.prompt.model_dump(mode="json"),
            "questions": [question.id for question in questions],
            "config": config,
        }
        path = self.folder / _META
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            same = ("fingerprint", "prompt", "questions")
            changed = [key for key in same if before[key] != meta[key]]
            decisive = ("agents", "seed", "oracle", "oracle_questions")
            changed += [key for key in decisive if before["config"].get(key) != config.get(key)]
            if changed:
                raise FingerprintError(
                    f"{self.folder} holds results of an evaluation that differs in: {', '.join(changed)}. Delete the "
                    "folder, or give another --out."
                )
        write_whole(path, json.dumps(meta, indent=2).encode())

    @property
    def meta(self) -> dict[str, Any]:
        """What was evaluated, and how."""
        meta: dict[str, Any] = json.loads((self.folder / _META).read_text(encoding="utf-8"))
        return meta


def refuse_leaks(questions: Sequence[Question], train_texts: Sequence[str]) -> None:
    """Refuse questions that an agent was trained on, whatever their choices or the form of their answer.

    Raises:
        LeakError: saying how many, and an example.
    """
    trained = {normalise(text) for text in train_texts}
    leaked = [question.text for question in questions if normalise(question.text) in trained]
    if leaked:
        raise LeakError(
            f"{len(leaked)} of {len(questions)} questions were used to train the agent, e.g. {leaked[0]!r}. "
            "Evaluate on the test split (--split test) or on other questions."
        )


def evaluate(
    executor: Executor,
    agents: Sequence[Agent],
    questions: Sequence[Question],
    results: Results,
    on_progress: Callable[[str, int], None] | None = None,
) -> None:
    """Measure agents; questions that the results have already are left out.

    Each method starts from nothing, so that its seconds are its own: proposing and executing together.

    Args:
        executor: executes programs.
        agents: what to measure; the first program of each proposal counts.
        questions: held-out questions.
        results: where rows go, a shard for each batch.
        on_progress: called with the method and the number of questions just measured.
    """
    for agent in agents:
        done = {row["question_id"] for row in results.rows() if row["method"] == agent.name}
        todo = [question for question in questions if question.id not in done]
        with executor.from_nothing():
            for batch in (todo[i : i + _BATCH] for i in range(0, len(todo), _BATCH)):
                started = time.perf_counter()
                programs = [proposals[0] for proposals in agent.propose(batch)]
                verdicts = executor.verdicts(list(zip(batch, programs, strict=True)))
                seconds = (time.perf_counter() - started) / len(batch)
                rows = zip(batch, programs, verdicts, strict=True)
                results.append([_row(executor, agent.name, q, p, v, seconds, 1) for q, p, v in rows])
                if on_progress is not None:
                    on_progress(agent.name, len(batch))


def evaluate_oracle(
    executor: Executor,
    questions: Sequence[Question],
    config: MctsConfig,
    results: Results,
    *,
    seed: int = 0,
    on_progress: Callable[[str, int], None] | None = None,
) -> None:
    """Search held-out questions with the gold answer in sight: the shortest right program found, as an upper bound."""
    done = {row["question_id"] for row in results.rows() if row["method"] == ORACLE}
    todo = [question for question in questions if question.id not in done]
    with executor.from_nothing():
        for batch in (todo[i : i + _BATCH] for i in range(0, len(todo), _BATCH)):
            started = time.perf_counter()
            trees = search(executor, batch, config, seed)
            seconds = (time.perf_counter() - started) / len(batch)
            best = [(tree, best_programs(tree)[0]) for tree in trees]
            results.append(
                [
                    _row(executor, ORACLE, tree.question, program, tree.verdicts[program], seconds, len(tree.verdicts))
                    for tree, program in best
                ]
            )
            if on_progress is not None:
                on_progress(ORACLE, len(batch))


def _row(
    executor: Executor, method: str, question: Question, program: Any, verdict: Any, seconds: float, tried: int
) -> dict[str, Any]:
    return {
        "method": method,
        "question_id": question.id,
        "task": question.task,
        "text": question.text,
        "answer": question.answer,
        "program": str(program),
        "right": verdict.right,
        "layers": len(program),
        "cost": program.cost(executor.depth),
        "log_prob": verdict.log_prob,
        "seconds": seconds,
        "programs_tried": tried,
    }
