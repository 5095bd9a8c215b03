"""``polar analyse``: what a trace set shows, as a page, figures, data files and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field

from polar_env.cli.bars import console
from polar_env.cli.flags import QuestionsConfig, with_model
from polar_env.cli.opening import open_world
from polar_env.cli.traces import open_traces, questions_of
from polar_env.errors import QuestionError, TraceError
from polar_env.tables import write_whole
from polar_env.traces.stages import IMPORTED, TREE

if TYPE_CHECKING:
    import pandas as pd

    from eval.analysis import Group
    from eval.rechecks import Rechecks
    from eval.statistics import Estimate
    from polar_env.traces import TraceSet

__all__ = ["CONFIG", "AnalyseConfig", "run"]


class AnalyseConfig(QuestionsConfig):
    """How often other programs are right, shorter or better than the normal pass, with intervals and chance levels."""

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """A trace set, or the run that holds one; by default OUT. The page goes into its folder analysis."""
    execute: Annotated[int, Field(ge=0)] = 100
    """Verdicts, and fixes, that are executed again to see whether they stand; 0 executes none and loads no model."""
    menu_size: Annotated[int, Field(ge=1)] = 20
    """Programs in the largest menu."""


CONFIG = AnalyseConfig


def run(config: AnalyseConfig) -> dict[str, Any]:
    """Analyse; everything lies in the trace set's folder ``analysis``."""
    from eval.analysis import analyse
    from eval.analysis_report import write_analysis

    traces = open_traces(config.folder or config.out)
    table = traces.table()
    if not table["stage"].isin([TREE, IMPORTED]).any():
        raise TraceError(f"{traces.folder} holds no trees; `polar search --out DIR` makes them.")
    analysis = analyse(table, traces.depth, config.menu_size)
    rechecks = _recheck(config, traces, table) if config.execute else None
    work = traces.work
    result = {
        **_of_group(analysis.overall),
        "shortest_5_cost": _as_json(analysis.shortest_5_cost),
        "by_group": [
            {"task": task, "difficulty": difficulty, **_of_group(group)}
            for (task, difficulty), group in analysis.by_group.items()
        ],
        "by_kind": {
            kind: {"tried": tried, "shorter": _as_json(c.shorter), "fixed": _as_json(c.fixed)}
            for kind, (tried, c) in analysis.by_kind.items()
        },
        "entropy_right": _as_json(analysis.right_use.entropy),
        "entropy_tried": _as_json(analysis.all_use.entropy),
        "menu": [asdict(point) for point in analysis.menu],
        **({key: _as_json(value) for key, value in vars(rechecks).items()} if rechecks else {}),
        "simulations": work.get("simulations"),
        "layer_executions": work.get("layer_executions"),
        "sharing_factor": work.get("sharing_factor"),
        "seconds": work.get("seconds"),
    }
    folder = traces.folder.parent / "analysis" if traces.folder.name == "traces" else traces.folder / "analysis"
    page = write_analysis(folder, analysis, rechecks, traces.meta | {"prompt": traces.prompts.name}, work)
    write_whole(folder / "analysis.json", json.dumps(result, indent=2).encode())
    if not config.json_output:
        print(page.read_text(encoding="utf-8"))
    console.print(f"analysis: {page}", markup=False)
    return result


def _recheck(config: AnalyseConfig, traces: TraceSet, table: pd.DataFrame) -> Rechecks:
    from eval.rechecks import recheck

    try:
        questions = questions_of(config, traces)
    except (QuestionError, TraceError) as error:
        raise TraceError(f"{error} Or give --execute 0: nothing is executed again then.") from error
    world = open_world(with_model(config, traces.meta["model"], traces.meta["dtype"]), traces.prompts)
    traces.require(world)
    return recheck(world, table, questions, config.execute, config.seed)


def _of_group(group: Group) -> dict[str, Any]:
    """Shares and lengths, those of random programs under names that say so."""
    shares: dict[str, Any] = {
        "questions": group.questions,
        "identity_share": _as_json(group.identity),
        "shortest_cost": _as_json(group.lengths),
    }
    for prefix, reached in (("", group.search), ("chance_", group.chance), ("singles_", group.singles)):
        shares[f"{prefix}shorter_share"] = _as_json(reached.shorter)
        shares[f"{prefix}fixed_share"] = _as_json(reached.fixed)
        shares[f"{prefix}shortest_of_right"] = _as_json(reached.shortest)
        if prefix:
            shares[f"fixed_beyond_{prefix[:-1]}"] = _as_json(reached.search_gain)
            shares[f"fixed_beyond_{prefix[:-1]}_p"] = reached.search_p if reached.search_gain else None
    return shares


def _as_json(estimate: Estimate | None) -> dict[str, float] | None:
    """A share with its interval; None where there were no such questions."""
    return None if estimate is None else asdict(estimate)
