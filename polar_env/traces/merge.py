"""Several trace sets of one model under one prompt, made one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from polar_env.errors import FingerprintError, TraceError
from polar_env.tables import writing_folder
from polar_env.traces.rows import VERDICTS
from polar_env.traces.stages import CHANCE, IMPORTED, SINGLES, TREE
from polar_env.traces.trace_set import META, TraceSet

__all__ = ["merge"]

_WHOLE = (TREE, CHANCE, SINGLES, IMPORTED)
"""Stages of which a question has all rows from one set, or none."""
_PAIR, _PART = ["question_id", "program"], ["stage", "question_id"]


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
        ConfigError: if the folder holds something else.
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
    with writing_folder(folder) as fresh:
        counts = _join(sources, TraceSet.start(fresh, {**first.meta, "config": config}))
    return TraceSet.open(folder), counts


def _join(sources: Sequence[TraceSet], merged: TraceSet) -> dict[str, int]:
    """Append all that is new in each source; see `merge`. The cost of trees that are left out is counted, too."""
    counts = {"verdicts": 0, "trees_left_out": 0, "disagreements": 0}
    earlier = pd.DataFrame({"question_id": [], "program": [], "before": []}).astype({"before": bool})
    taken = pd.DataFrame({"stage": [], "question_id": []}).assign(taken=True)
    for source in sources:
        rows = source.verdict_table().to_pandas()
        rows = rows.merge(earlier, "left", _PAIR).merge(taken, "left", _PART)
        there, again = rows["before"].notna(), rows["taken"].notna() & rows["stage"].isin(_WHOLE)
        before = rows["before"].where(there, rows["right"]).astype(bool)
        left_out = rows.loc[again & (rows["stage"] == TREE), "question_id"].unique()
        kept = rows.assign(right=before)[~again & (rows["stage"].isin(_WHOLE) | ~there)]
        nodes = source.node_table()
        is_new = ~pd.Series(nodes["question_id"].to_pylist(), dtype=object).isin(left_out).to_numpy(dtype=bool)
        merged.append_tables(
            pa.Table.from_pandas(kept[VERDICTS.names], schema=VERDICTS, preserve_index=False), nodes.filter(is_new)
        )
        if source.work:
            merged.add_work(**{name: count for name, count in source.work.items() if name != "sharing_factor"})
        counts["trees_left_out"] += len(left_out)
        counts["disagreements"] += int((before != rows["right"]).sum())
        counts["verdicts"] += len(kept)
        new = kept[[*_PAIR, "right"]].rename(columns={"right": "before"})
        earlier = pd.concat([earlier, new]).drop_duplicates(_PAIR)
        taken = pd.concat([taken, kept[_PART].drop_duplicates().assign(taken=True)]).drop_duplicates(_PART)
    return counts
