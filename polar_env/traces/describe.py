"""What a trace set holds, in numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from polar_env.traces.stages import TREE
from polar_env.traces.trace_set import TraceSet

__all__ = ["describe"]


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
