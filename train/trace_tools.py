"""Looking after trace sets: what is in them, whether they are whole, and several made one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polar_env.errors import FingerprintError, ProgramError, TraceError
from polar_env.program import Program
from polar_env.tables import ShardedTable
from train.traces import META, TREE, TraceRow, TraceSet

__all__ = ["check_traces", "describe", "merge"]


def describe(traces: TraceSet) -> dict[str, Any]:
    """What a trace set holds, in numbers."""
    rows = traces.rows()
    trees = [row for row in rows if row["stage"] == TREE]
    config = traces.meta["config"]
    return {
        "model": traces.meta["model"],
        "fingerprint": traces.meta["fingerprint"],
        "dtype": traces.meta["dtype"],
        "depth": traces.depth,
        "prompt": traces.prompt.name,
        "seed": config.get("seed"),
        "verdicts": len(rows),
        "right": sum(row["right"] for row in rows),
        "questions": len({row["question_id"] for row in rows}),
        "trees": len({row["question_id"] for row in trees}),
        "programs": len({row["program"] for row in rows}),
        "tasks": dict(Counter(task for _, task in {(row["question_id"], row["task"]) for row in rows})),
        "splits": dict(Counter(split for _, split in {(row["question_id"], row["split"]) for row in rows})),
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
    return problems


def _readable(table: ShardedTable) -> tuple[list[TraceRow], list[str]]:
    """The rows of all shards that can be read, and what is wrong with the others."""
    rows, problems = [], []
    for shard in table.shards:
        try:
            rows += table.read(shard)
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

    A question's tree comes from the first set that has one; of shared programs all verdicts are taken.

    Args:
        sources: at least one.
        folder: where the new set goes.

    Returns:
        The new set, and counts: ``verdicts``, ``trees_left_out`` and ``disagreements`` (verdicts on which two sets
        differ; the first one's stands).

    Raises:
        FingerprintError: if they are of different models or prompts.
        TraceError: if the folder holds a trace set already.
    """
    first = sources[0]
    if (folder / META).exists():
        raise TraceError(f"{folder} holds a trace set already; give another --out folder.")
    for other in sources[1:]:
        different = [key for key in ("fingerprint", "prompt", "depth", "dtype") if other.meta[key] != first.meta[key]]
        if different:
            raise FingerprintError(
                f"{other.folder} and {first.folder} differ in {' and '.join(different)}; traces of one model under one "
                "prompt can be merged."
            )
    configs = [source.meta["config"] for source in sources]
    merged = TraceSet.start(folder, {**first.meta, "config": {**configs[0], "merged": configs}})
    counts = {"verdicts": 0, "trees_left_out": 0, "disagreements": 0}
    right: dict[tuple[str, str], bool] = {}
    searched: set[str] = set()
    for source in sources:
        rows, nodes = source.rows(), source.node_rows()
        again = {row["question_id"] for row in rows if row["stage"] == TREE} & searched
        counts["trees_left_out"] += len(again)
        counts["disagreements"] += sum(
            right.get((row["question_id"], row["program"]), row["right"]) != row["right"] for row in rows
        )
        kept = [
            row
            for row in rows
            if (row["question_id"] not in again if row["stage"] == TREE else _key(row) not in right)
            and right.get(_key(row), row["right"]) == row["right"]
        ]
        searched |= {row["question_id"] for row in kept if row["stage"] == TREE}
        right |= {_key(row): row["right"] for row in kept}
        merged.append(kept, [node for node in nodes if node["question_id"] not in again])
        counts["verdicts"] += len(kept)
    return merged, counts


def _key(row: TraceRow) -> tuple[str, str]:
    return row["question_id"], row["program"]
