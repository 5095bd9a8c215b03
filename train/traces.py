"""Trace sets: everything that search found out, as Parquet shards beside one metadata file.

One row for each (question, program) evaluated. A killed search leaves only whole shards, and the next one goes on with
the questions that are missing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from agents.mcts import Tree
from polar_env.errors import FingerprintError, TraceError
from polar_env.executor import Executor, Verdict
from polar_env.program import Program
from polar_env.questions import Prompt, Question
from polar_env.tables import ShardedTable, write_whole

__all__ = ["TraceRow", "TraceSet", "VerdictMatrix", "rows_of_tree"]

SCHEMA_VERSION = 1
_META = "traces.json"
_SCHEMA = pa.schema(
    [
        ("question_id", pa.string()),
        ("text", pa.string()),
        ("task", pa.string()),
        ("split", pa.string()),
        ("program", pa.string()),
        ("layers", pa.int32()),
        ("cost", pa.float32()),
        ("right", pa.bool_()),
        ("log_prob", pa.float32()),
        ("visits", pa.int32()),
        ("stage", pa.string()),
    ]
)
TraceRow = dict[str, Any]


def trace_row(
    question: Question, program: Program, verdict: Verdict, depth: int, *, visits: int, stage: str
) -> TraceRow:
    """One row of a trace set."""
    return {
        "question_id": question.id,
        "text": question.text,
        "task": question.task,
        "split": question.split,
        "program": str(program),
        "layers": len(program),
        "cost": program.cost(depth),
        "right": verdict.right,
        "log_prob": verdict.log_prob,
        "visits": visits,
        "stage": stage,
    }


def rows_of_tree(tree: Tree, stage: str = "tree") -> list[TraceRow]:
    """Every program that a tree evaluated, in order."""
    return [
        trace_row(tree.question, program, verdict, tree.depth, visits=tree.visits(program), stage=stage)
        for program, verdict in tree.verdicts.items()
    ]


@dataclass(frozen=True)
class VerdictMatrix:
    """Shared programs on all questions: the form that learners need.

    Attributes:
        question_ids: ``Q`` questions.
        programs: ``M`` programs; the first is the identity.
        right: ``bool [Q, M]``.
        costs: ``float [M]``, executed layers / D.
    """

    question_ids: list[str]
    programs: list[Program]
    right: NDArray[np.bool_]
    costs: NDArray[np.float64]

    def rewards(self, layer_cost: float) -> NDArray[np.float64]:
        """Verdict minus layer cost, ``[Q, M]``."""
        return self.right.astype(float) - layer_cost * self.costs

    def of(self, questions: Sequence[Question]) -> tuple[list[Question], VerdictMatrix]:
        """Those of some questions that the matrix knows, and their rows in the same order.

        Raises:
            TraceError: if it knows none of them.
        """
        row_of = {question_id: row for row, question_id in enumerate(self.question_ids)}
        known = [question for question in questions if question.id in row_of]
        if not known:
            raise TraceError("the traces are of none of these questions; give the --questions that were searched.")
        ids = [question.id for question in known]
        return known, replace(self, question_ids=ids, right=self.right[[row_of[i] for i in ids]])


class TraceSet:
    """A folder of traces of one model under one prompt.

    Args:
        folder: where the shards lie.
        meta: what all of them have in common.
    """

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        self.folder, self.meta = folder, meta
        self._table = ShardedTable(folder, _SCHEMA)

    @classmethod
    def create(cls, folder: Path, executor: Executor, config: dict[str, Any]) -> TraceSet:
        """Open a trace set to append to it, or start it.

        Raises:
            FingerprintError: if traces of another model or prompt lie there already.
        """
        meta = {
            "schema_version": SCHEMA_VERSION,
            "model": executor.llm.name,
            "fingerprint": executor.llm.fingerprint,
            "depth": executor.depth,
            "dtype": executor.llm.dtype_name,
            "prompt": json.loads(executor.prompt.model_dump_json()),
            "config": config,
        }
        if (folder / _META).exists():
            traces = cls.open(folder)
            traces.require(executor)
            return traces
        write_whole(folder / _META, json.dumps(meta, indent=2).encode())
        return cls(folder, meta)

    @classmethod
    def open(cls, folder: Path) -> TraceSet:
        """Open an existing trace set.

        Raises:
            TraceError: if there is none; FingerprintError for another schema version.
        """
        if not (folder / _META).is_file():
            raise TraceError(f"{folder} holds no trace set ({_META} is missing); `polar search --out DIR` makes one.")
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
        if meta.get("schema_version") != SCHEMA_VERSION:
            raise FingerprintError(
                f"{folder} has trace schema {meta.get('schema_version')}, this version reads {SCHEMA_VERSION}; search "
                "again."
            )
        return cls(folder, meta)

    def require(self, executor: Executor) -> None:
        """Refuse another model or prompt than the one that made these traces.

        Raises:
            FingerprintError: saying which differs.
        """
        if self.meta["fingerprint"] != executor.llm.fingerprint:
            raise FingerprintError(
                f"the traces in {self.folder} are of model '{self.meta['model']}' in {self.meta['dtype']} "
                f"({self.meta['fingerprint']}), but this is '{executor.llm.name}' in {executor.llm.dtype_name} "
                f"({executor.llm.fingerprint}). Use that model and --dtype, or another --out folder."
            )
        if self.prompt != executor.prompt:
            raise FingerprintError(
                f"the traces in {self.folder} were made under prompt '{self.prompt.name}' with other examples than "
                f"this '{executor.prompt.name}'. Use that prompt, or another --out folder."
            )

    @property
    def prompt(self) -> Prompt:
        """The prompt under which all traces were made."""
        return Prompt.model_validate(self.meta["prompt"])

    @property
    def depth(self) -> int:
        """The model's depth."""
        return int(self.meta["depth"])

    def append(self, rows: Sequence[TraceRow]) -> None:
        """Write one shard, whole or not at all."""
        self._table.append(rows)

    def rows(self) -> list[TraceRow]:
        """All rows, in the order in which they were written; raises TraceError for a damaged shard."""
        return self._table.rows()

    def questions_done(self, stage: str) -> set[str]:
        """Ids of the questions that a stage has finished."""
        return {row["question_id"] for row in self.rows() if row["stage"] == stage}

    def matrix(self, least_share: float = 0.95) -> VerdictMatrix:
        """The shared programs: those evaluated on at least ``least_share`` of the questions, on the questions that all
        of them were evaluated on.

        Raises:
            TraceError: if there are no traces yet, or no shared programs.
        """
        known: dict[str, dict[str, bool]] = {}
        for row in self.rows():
            known.setdefault(row["program"], {})[row["question_id"]] = row["right"]
        identity = str(Program.identity(self.depth))
        if identity not in known:
            raise TraceError(f"{self.folder} holds no traces yet; `polar search --out DIR` makes them.")
        everyone = known[identity]
        others = sorted(
            p for p, answers in known.items() if p != identity and len(answers) >= least_share * len(everyone)
        )
        shared = [identity, *others]
        if not others:
            raise TraceError(
                f"{self.folder} holds no program that most questions share; run `polar search` to its end."
            )
        ids = [i for i in everyone if all(i in known[p] for p in shared)]
        right = np.array([[known[p][i] for p in shared] for i in ids], dtype=bool)
        programs = [Program.parse(p) for p in shared]
        return VerdictMatrix(ids, programs, right, np.array([p.cost(self.depth) for p in programs]))
