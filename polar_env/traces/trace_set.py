"""Trace sets: everything that searches tried, as Parquet shards beside one metadata file.

Two tables: ``shard-*`` has a row for each (question, program) evaluated, ``nodes-*`` a row for each state that a tree
came through. A killed search leaves only whole shards, and the next one goes on with the questions that are missing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from polar_env.config import Config
from polar_env.errors import FingerprintError, TraceError
from polar_env.program import Program
from polar_env.questions import Prompts
from polar_env.tables import ShardedTable, write_whole
from polar_env.traces.matrix import VerdictMatrix, shared_verdicts
from polar_env.traces.rows import NODES, VERDICTS, NodeRow, VerdictRow, node_rows, table_of, verdict_rows
from polar_env.traces.stages import TREE
from polar_env.traces.tree import Trace

if TYPE_CHECKING:
    from polar_env.llm import FrozenLLM
    from polar_env.worlds import LiveWorld

__all__ = ["META", "TraceSet", "new_meta"]

Row = TypeVar("Row", VerdictRow, NodeRow)

SCHEMA_VERSION = 3
META = "traces.json"
_WORK = "work.json"
_STREAMED = 4096
"""Rows that are Python objects at a time."""
_META_ADVICE = (
    "The shards beside it may be whole: put a copy of the file there, or one that the same command makes in another "
    "folder; else search again elsewhere."
)


class _Meta(Config, extra="allow"):
    """What the metadata file must hold."""

    model: str
    fingerprint: str
    dtype: str
    depth: int
    prompts: Prompts
    config: dict[str, Any]
    checksum: str


class _Work(Config):
    """What the file about the work holds."""

    simulations: float
    asked_tokens: float
    executed_tokens: float
    layer_executions: float
    seconds: float


def new_meta(llm: FrozenLLM, prompts: Prompts, config: dict[str, Any]) -> dict[str, Any]:
    """What a new trace set of a model under a prompt says of itself."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": llm.name,
        "fingerprint": llm.fingerprint,
        "depth": llm.depth,
        "dtype": llm.dtype_name,
        "prompts": prompts.model_dump(mode="json"),
        "config": config,
    }


def _checksum(meta: dict[str, Any]) -> str:
    content = {key: value for key, value in meta.items() if key != "checksum"}
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8).hexdigest()


def _locked(folder: Path) -> IO[str]:
    """Let no other process append until the file that is returned is closed, or gone.

    Raises:
        TraceError: if another one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise TraceError(
            f"another process is appending to {folder}; wait for it, or give another --out folder and join them with "
            "`polar traces merge`."
        ) from error
    return lock


class TraceSet:
    """A folder of traces of one model under one prompt.

    Args:
        folder: where the shards lie.
        meta: what all of them have in common.
    """

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        self.folder, self.meta = folder, meta
        self._lock: IO[str] | None = None
        self.verdicts = ShardedTable(folder, VERDICTS)
        self.nodes = ShardedTable(folder, NODES, "nodes")

    @classmethod
    def create(cls, folder: Path, world: LiveWorld, config: dict[str, Any]) -> TraceSet:
        """Open a trace set to append to it, or start it.

        Raises:
            FingerprintError: if traces of another model, prompt or configuration lie there already.
        """
        lock = _locked(folder)
        if not (folder / META).exists():
            traces = cls.start(folder, new_meta(world.llm, world.prompts, config))
        else:
            traces = cls.open(folder)
            traces.require(world)
            traces.require_config(config)
        traces._lock = lock
        return traces

    @classmethod
    def start(cls, folder: Path, meta: dict[str, Any]) -> TraceSet:
        """Start a trace set with given metadata."""
        traces = cls(folder, meta)
        traces._write_meta()
        return traces

    def _write_meta(self) -> None:
        self.meta["checksum"] = _checksum(self.meta)
        write_whole(self.folder / META, json.dumps(self.meta, indent=2).encode())

    @classmethod
    def open(cls, folder: Path) -> TraceSet:
        """Open an existing trace set.

        Raises:
            TraceError: if there is none, or its metadata is damaged; FingerprintError for another schema version.
        """
        if not (folder / META).is_file():
            raise TraceError(f"{folder} holds no trace set ({META} is missing); `polar search --out DIR` makes one.")
        try:
            meta = json.loads((folder / META).read_text(encoding="utf-8"))
            if meta["schema_version"] != SCHEMA_VERSION:
                raise FingerprintError(
                    f"{folder} has trace schema {meta['schema_version']}, this version reads {SCHEMA_VERSION}; search "
                    "again."
                )
            whole = _Meta.model_validate(meta)
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, FingerprintError):
                raise
            raise TraceError(f"{folder / META} is damaged ({error}). {_META_ADVICE}") from error
        if whole.checksum != _checksum(meta):
            raise TraceError(f"{folder / META} was changed: it does not match its checksum. {_META_ADVICE}")
        return cls(folder, meta)

    def require(self, world: LiveWorld) -> None:
        """Refuse another model or prompt than the one that made these traces.

        Raises:
            FingerprintError: saying which differs.
        """
        if self.meta["fingerprint"] != world.llm.fingerprint:
            raise FingerprintError(
                f"the traces in {self.folder} are of model '{self.meta['model']}' in {self.meta['dtype']} "
                f"({self.meta['fingerprint']}), but this is '{world.llm.name}' in {world.llm.dtype_name} "
                f"({world.llm.fingerprint}). Use that model and --dtype, or another --out folder."
            )
        if self.prompts != world.prompts:
            raise FingerprintError(
                f"the traces in {self.folder} were made under prompt '{self.prompts.name}' with other examples than "
                f"this '{world.prompts.name}'. Use that prompt, or another --out folder."
            )

    def require_config(self, config: dict[str, Any]) -> None:
        """Refuse other settings of the trees than those that made these; a set without trees takes them on, and any set
        more questions.

        Raises:
            FingerprintError: naming the settings that differ.
        """
        settings = self.meta["config"]
        if "mcts" in config and "mcts" in settings:
            there, here = ({"seed": c.get("seed"), **c["mcts"]} for c in (settings, config))
            different = [name for name in there.keys() | here.keys() if there.get(name) != here.get(name)]
            if different:
                told = "; ".join(f"{n}: {there.get(n)} there, {here.get(n)} here" for n in sorted(different))
                raise FingerprintError(
                    f"the traces in {self.folder} were made with other settings ({told}). Use those, or another --out "
                    "folder; `polar traces merge` joins folders."
                )
        taken_on = {key: value for key, value in config.items() if key == "race" or "mcts" not in settings}
        taken_on["questions"] = list(dict.fromkeys([*settings.get("questions", []), *config.get("questions", [])]))
        if any(settings.get(key) != value for key, value in taken_on.items()):
            settings |= taken_on
            self._write_meta()

    @property
    def prompts(self) -> Prompts:
        """The prompts under which all traces were made."""
        return Prompts.model_validate(self.meta["prompts"])

    @property
    def depth(self) -> int:
        """The model's depth."""
        return int(self.meta["depth"])

    def append(self, rows: Sequence[VerdictRow], nodes: Sequence[NodeRow] = ()) -> None:
        """Write one shard of verdicts, whole or not at all; the nodes that belong to it are written before."""
        self.append_tables(table_of(rows, VERDICTS), table_of(nodes, NODES))

    def append_tables(self, verdicts: pa.Table, nodes: pa.Table) -> None:
        """The same from columns."""
        number = self.verdicts.next_number
        self.nodes.append_table(nodes, number)  # a shard that a killed search left without its verdicts is replaced
        self.verdicts.append_table(verdicts, number)

    def append_traces(self, traces: Iterable[Trace]) -> None:
        """Write what some searches tried as one shard."""
        trees = list(traces)
        self.append([r for t in trees for r in verdict_rows(t)], [r for t in trees for r in node_rows(t)])

    @property
    def work(self) -> dict[str, float]:
        """What the set has cost so far: simulations, tokens through layers asked for, executed and the factor between
        the two (what sharing saved), layer executions, seconds; empty where no tree grew here.
        """
        path = self.folder / _WORK
        if not path.is_file():
            return {}
        try:
            work = _Work.model_validate_json(path.read_bytes()).model_dump()
        except ValidationError as error:
            raise TraceError(
                f"{path} is damaged ({error.errors()[0]['msg']}); delete it: it only tells what the search has cost."
            ) from error
        work["sharing_factor"] = work["asked_tokens"] / max(1, work["executed_tokens"])
        return work

    def add_work(self, **counts: float) -> None:
        """Add to what the set has cost; what a killed process did since its last shard is not counted."""
        before = self.work
        total = {name: before.get(name, 0) + count for name, count in counts.items()}
        write_whole(self.folder / _WORK, json.dumps(total, indent=2).encode())

    def verdict_rows(self) -> Iterator[VerdictRow]:
        """All verdicts, one after the other, in an order that does not depend on which question was finished first.

        Raises:
            TraceError: for a damaged shard.
        """
        return _rows(self.verdict_table(), VerdictRow)

    def verdict_table(self) -> pa.Table:
        """The same verdicts as columns.

        Raises:
            TraceError: for a damaged shard.
        """
        order = ("stage", "question_id", "order", "program")
        return self.verdicts.table().sort_by([(column, "ascending") for column in order])

    def table(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The same verdicts, or some of their columns, with categories for texts: a few bytes for each row.

        Raises:
            TraceError: for a damaged shard.
        """
        return self.verdict_table().select(columns or VERDICTS.names).to_pandas(strings_to_categorical=True)

    def node_rows(self) -> Iterator[NodeRow]:
        """All nodes of all trees, one after the other, tree by tree.

        Raises:
            TraceError: for a damaged shard.
        """
        return _rows(self.node_table(), NodeRow)

    def node_table(self) -> pa.Table:
        """The same nodes as columns; those of shards whose verdicts are missing are left out.

        Raises:
            TraceError: for a damaged shard.
        """
        whole = {self.verdicts.number(shard) for shard in self.verdicts.shards}
        shards = [shard for shard in self.nodes.shards if self.nodes.number(shard) in whole]
        table = pa.concat_tables([NODES.empty_table(), *(self.nodes.read(shard) for shard in shards)])
        return table.sort_by([("question_id", "ascending"), ("order", "ascending")])

    def questions_done(self) -> set[str]:
        """Ids of the questions that have a tree."""
        return self.question_ids(TREE)

    def question_ids(self, stage: str = "") -> set[str]:
        """Ids of all questions, or of those that a stage has; reads no other columns.

        Raises:
            TraceError: for a damaged shard.
        """
        ids: set[str] = set()
        for shard in self.verdicts.shards:
            columns = self.verdicts.read(shard, ["question_id", "stage"])
            some = columns.filter(pc.equal(columns["stage"], stage)) if stage else columns
            ids.update(some["question_id"].unique().to_pylist())
        return ids

    def matrix(self, least_share: float = 0.95) -> VerdictMatrix:
        """The shared programs: those evaluated on at least ``least_share`` of the questions, on the questions that all
        of them were evaluated on.

        Raises:
            TraceError: if there are no traces yet, or no shared programs.
        """
        right = shared_verdicts(self.table(["question_id", "stage", "program", "right"]), self.depth, least_share)
        if right.empty:
            raise TraceError(f"{self.folder} holds no traces yet; `polar search --out DIR` makes them.")
        if right.shape[1] == 1:
            raise TraceError(
                f"{self.folder} holds no program that most questions share; run `polar search` to its end."
            )
        programs = [Program.parse(program) for program in right.columns]
        costs = np.array([program.cost(self.depth) for program in programs])
        return VerdictMatrix([str(i) for i in right.index], programs, right.to_numpy(), costs)


def _rows(table: pa.Table, kind: Callable[..., Row]) -> Iterator[Row]:
    """The rows of a table as objects, some thousand at a time."""
    for batch in table.to_batches(max_chunksize=_STREAMED):
        yield from (kind(**row) for row in batch.to_pylist())
