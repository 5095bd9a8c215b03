"""Is a trace set whole? Shards, programs, contradictions and trees, column by column."""

from __future__ import annotations

import math

import pandas as pd
import pyarrow as pa

from polar_env.errors import ProgramError, TraceError
from polar_env.program import Program
from polar_env.tables import ShardedTable
from polar_env.traces.stages import TREE
from polar_env.traces.trace_set import TraceSet

__all__ = ["check_traces"]

_PAIR = ["question_id", "program"]


def check_traces(traces: TraceSet) -> list[str]:
    """Everything that is wrong with a trace set, one line each; nothing where it is whole."""
    verdicts, problems = _readable(traces.verdicts)
    nodes, more = _readable(traces.nodes)
    problems += more
    whole = {path.name for table in (traces.verdicts, traces.nodes) for path in table.shards}
    strays = [path.name for path in traces.folder.glob("*.parquet") if path.name not in whole]
    problems += [f"{name}: no shard of this version; delete it." for name in sorted(strays)]
    numbers = [{table.number(shard) for shard in table.shards} for table in (traces.verdicts, traces.nodes)]
    problems += [f"nodes-{n:05d}: the shard of verdicts of this number is missing." for n in numbers[1] - numbers[0]]
    return (
        problems
        + _wrong_programs(verdicts, traces.depth)
        + _contradictions(verdicts)
        + _broken_trees(verdicts, nodes, str(Program.identity(traces.depth)))
    )


def _readable(table: ShardedTable) -> tuple[pd.DataFrame, list[str]]:
    """The columns of all shards that can be read, and what is wrong with the others."""
    parts, problems = [table.schema.empty_table()], []
    for shard in table.shards:
        try:
            parts.append(table.read(shard))
        except TraceError as error:
            problems.append(str(error))
    return pa.concat_tables(parts).to_pandas(strings_to_categorical=True), problems


def _wrong_programs(verdicts: pd.DataFrame, depth: int) -> list[str]:
    """Texts that are no programs of the model, and layers and costs that are not theirs; each once."""
    problems = []
    for row in verdicts.drop_duplicates(["program", "layers", "cost"]).itertuples():
        where = f"question {row.question_id}, program '{row.program}'"
        try:
            program = Program.parse(str(row.program), depth)
        except ProgramError as error:
            problems.append(f"{where}: {error}")
            continue
        if row.layers != len(program):
            problems.append(f"{where}: it has {len(program)} layers, the row says {row.layers}.")
        if not math.isclose(row.cost, program.cost(depth), rel_tol=1e-5):
            problems.append(f"{where}: it costs {program.cost(depth):.4f}, the row says {row.cost:.4f}.")
    return problems


def _contradictions(verdicts: pd.DataFrame) -> list[str]:
    several = verdicts.groupby(_PAIR, observed=True)["right"].nunique()
    return [
        f"question {question_id}, program '{program}': right in one row and wrong in another."
        for question_id, program in several.index[several > 1]
    ]


def _broken_trees(verdicts: pd.DataFrame, nodes: pd.DataFrame, identity: str) -> list[str]:
    """Trees without some of their programs, without the identity in front, or without nodes of their own."""
    trees = verdicts[verdicts["stage"] == TREE]
    by_question = trees.groupby("question_id", observed=True)["order"]
    gaps = by_question.nunique() != by_question.max() + 1
    repeated = by_question.nunique() != by_question.size()
    first = trees[(trees["order"] == 0) & (trees["program"] == identity)]["question_id"]
    begun = pd.Series(gaps.index.isin(first), gaps.index)
    problems = [
        f"question {question_id}: its tree is not whole, or does not begin with the identity."
        for question_id in gaps.index[gaps | repeated | ~begun]
    ]
    roots = nodes[nodes["order"] == 0]["question_id"].value_counts().reindex(gaps.index, fill_value=0)
    return problems + [
        f"question {question_id}: the nodes of its tree are there {count} times."
        for question_id, count in roots[roots != 1].items()
    ]
