"""Looking after trace sets: what is in them, whether they are whole, and several made one."""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polar_env.errors import FingerprintError, ProgramError, TraceError
from polar_env.program import Program
from polar_env.stages import CHANCE, IMPORTED, SINGLES, TREE
from polar_env.tables import ShardedTable
from train.traces import META, TraceRow, TraceSet

__all__ = ["check_traces", "describe", "merge"]


def describe(traces: TraceSet) -> dict[str, Any]:
    """What a trace set holds, in numbers."""
    table = traces.table()
    questions = table.drop_duplicates("question_id")
    config = traces.meta["config"]
    return {
        "model": traces.meta["model"],
        "fingerprint": traces.meta["fingerprint"],
        "dtype": traces.meta["dtype"],
        "depth": traces.depth,
        "prompt": traces.prompts.name,
        "seed": config.get("seed"),
        "verdicts": len(table),
        "right": int(table["right"].sum()),
        "questions": len(questions),
        "trees": int(table.loc[table["stage"] == TREE, "question_id"].nunique()),
        "programs": int(table["program"].nunique()),
        "tasks": dict(Counter(questions["task"])),
        "splits": dict(Counter(questions["split"])),
        "shards": len(traces.verdicts.shards),
        "bytes": sum(shard.stat().st_size for table in (traces.verdicts, traces.nodes) for shard in table.shards),
    }


def check_traces(traces: TraceSet) -> list[str]:
    """Everything that is wrong with a trace set, one line each; nothing where it is whole."""
    verdicts, nodes = _readable(traces.verdicts), _readable(traces.nodes)
    problems = verdicts[1] + nodes[1]
    whole = {path.name for table in (traces.verdicts, traces.nodes) for path in table.shards}
    strays = [path.name for path in traces.folder.glob("*.parquet") if path.name not in whole]
    problems += [f"{name}: no shard of this version; delete it." for name in sorted(strays)]
    right: dict[tuple[str, str], bool] = {}
    steps: dict[str, dict[int, str]] = {}
    numbers = [{table.number(shard) for shard in table.shards} for table in (traces.verdicts, traces.nodes)]
    problems += [f"nodes-{n:05d}: the shard of verdicts of this number is missing." for n in numbers[1] - numbers[0]]
    roots = Counter(row["question_id"] for row in nodes[0] if row["step"] == 0)
    for row in verdicts[0]:
        where = f"question {row['question_id']}, program '{row['program']}'"
        problems += [f"{where}: {problem}" for problem in _wrong_with(row, traces.depth)]
        if right.setdefault((row["question_id"], row["program"]), row["right"]) != row["right"]:
            problems.append(f"{where}: right in one row and wrong in another.")
        if row["stage"] == TREE:
            steps.setdefault(row["question_id"], {})[row["step"]] = row["program"]
    identity = str(Program.identity(traces.depth))
    for question_id, programs in steps.items():
        if sorted(programs) != list(range(len(programs))) or programs.get(0) != identity:
            problems.append(f"question {question_id}: its tree is not whole, or does not begin with the identity.")
        if roots[question_id] != 1:
            problems.append(f"question {question_id}: the nodes of its tree are there {roots[question_id]} times.")
    return problems


def _readable(table: ShardedTable) -> tuple[list[TraceRow], list[str]]:
    """The rows of all shards that can be read, and what is wrong with the others."""
    rows, problems = [], []
    for shard in table.shards:
        try:
            rows += table.read(shard).to_pylist()
        except TraceError as error:
            problems.append(str(error))
    return rows, problems


def _wrong_with(row: TraceRow, depth: int) -> list[str]:
    try:
        program = Program.parse(row["program"], depth)
    except ProgramError as error:
        return [str(error)]
    problems = []
    if row["layers"] != len(program):
        problems.append(f"it has {len(program)} layers, the row says {row['layers']}.")
    if not math.isclose(row["cost"], program.cost(depth), rel_tol=1e-5):
        problems.append(f"it costs {program.cost(depth):.4f}, the row says {row['cost']:.4f}.")
    return problems


def merge(sources: Sequence[TraceSet], folder: Path) -> tuple[TraceSet, dict[str, int]]:
    """Join trace sets of one model under one prompt.

    A question's tree, and its random programs, come from the first set that has them; of shared programs all verdicts
    are taken.

    Args:
        sources: at least one.
        folder: where the new set goes.

    Returns:
        The new set, and counts: ``verdicts``, ``trees_left_out`` and ``disagreements`` (verdicts on which two sets
        differ; the first one's stands, wherever the program was evaluated).

    Raises:
        FingerprintError: if they are of different models or prompts.
        TraceError: if the folder holds a trace set already, or a source is damaged; nothing is left then.
    """
    first = sources[0]
    if (folder / META).exists():
        raise TraceError(f"{folder} holds a trace set already; give another --out folder.")
    for other in sources[1:]:
        different = [key for key in ("fingerprint", "prompts", "depth", "dtype") if other.meta[key] != first.meta[key]]
        if different:
            raise FingerprintError(
                f"{other.folder} and {first.folder} differ in {' and '.join(different)}; traces of one model under one "
                "prompt can be merged."
            )
    configs = [source.meta["config"] for source in sources]
    specs = dict.fromkeys(spec for config in configs for spec in config.get("questions", []))
    config = {**configs[0], "questions": list(specs), "merged": configs}
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")  # renamed when it is whole
    try:
        counts = _join(sources, TraceSet.start(partial, {**first.meta, "config": config}))
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return TraceSet.open(folder), counts


def _join(sources: Sequence[TraceSet], merged: TraceSet) -> dict[str, int]:
    """Append all that is new in each source; see `merge`. The cost of trees that are left out is counted, too."""
    counts = {"verdicts": 0, "trees_left_out": 0, "disagreements": 0}
    right: dict[tuple[str, str], bool] = {}
    taken: set[tuple[str, str]] = set()
    for source in sources:
        rows = source.rows()
        again = {(row["stage"], row["question_id"]) for row in rows if row["stage"] in _WHOLE} & taken
        counts["trees_left_out"] += sum(stage == TREE for stage, _ in again)
        counts["disagreements"] += sum(right.get(_key(row), row["right"]) != row["right"] for row in rows)
        kept = [{**row, "right": right.get(_key(row), row["right"])} for row in rows if _is_new(row, again, right)]
        nodes = [node for node in source.node_rows() if (TREE, node["question_id"]) not in again]
        merged.append(kept, nodes)
        if source.work:
            merged.add_work(**{name: count for name, count in source.work.items() if name != "sharing_factor"})
        taken |= {(row["stage"], row["question_id"]) for row in kept}
        right |= {_key(row): row["right"] for row in kept}
        counts["verdicts"] += len(kept)
    return counts


_WHOLE = (TREE, CHANCE, SINGLES, IMPORTED)
"""Stages of which a question has all rows from one set, or none."""


def _is_new(row: TraceRow, again: set[tuple[str, str]], right: dict[tuple[str, str], bool]) -> bool:
    if row["stage"] in _WHOLE:
        return (row["stage"], row["question_id"]) not in again
    return _key(row) not in right


def _key(row: TraceRow) -> tuple[str, str]:
    return row["question_id"], row["program"]
