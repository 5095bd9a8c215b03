"""``polar analyse``: what a trace set shows, as a page, figures, data files and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro
from pydantic import Field

from eval.analysis import analyse
from eval.analysis_report import write_analysis
from eval.rechecks import Rechecks, recheck
from eval.statistics import Estimate
from polar_env.cli.common import QuestionsConfig, console, open_executor, with_model
from polar_env.cli.traces import open_traces, questions_of
from polar_env.errors import TraceError
from polar_env.stages import IMPORTED, TREE
from polar_env.tables import write_whole
from train.traces import TraceSet

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
    traces = open_traces(config.folder or config.out)
    table = traces.table()
    if not table["stage"].isin([TREE, IMPORTED]).any():
        raise TraceError(f"{traces.folder} holds no trees; `polar search --out DIR` makes them.")
    found = analyse(table, traces.depth, config.menu_size)
    rechecks = _recheck(config, traces, table) if config.execute else None
    work = traces.work
    result = {
        "questions": found.questions,
        "identity_share": _as_json(found.identity),
        "shorter_share": _as_json(found.search.shorter),
        "fixed_share": _as_json(found.search.fixed),
        "chance_shorter_share": _as_json(found.chance.shorter),
        "chance_fixed_share": _as_json(found.chance.fixed),
        "singles_shorter_share": _as_json(found.singles.shorter),
        "singles_fixed_share": _as_json(found.singles.fixed),
        "shortest_of_right": _as_json(found.search.shortest),
        "chance_shortest_of_right": _as_json(found.chance.shortest),
        "singles_shortest_of_right": _as_json(found.singles.shortest),
        "fixed_beyond_chance": _as_json(found.chance.behind),
        "fixed_beyond_singles": _as_json(found.singles.behind),
        "shortest_cost": found.shortest_cost if len(found.lengths) else None,
        "shortest_5_cost": found.shortest_5_cost if len(found.lengths) else None,
        "by_kind": {k: {"shorter": _as_json(c.shorter), "fixed": _as_json(c.fixed)} for k, c in found.by_kind.items()},
        "entropy_right": found.right_use.entropy,
        "entropy_tried": found.all_use.entropy,
        "menu": [asdict(point) for point in found.menu],
        **({key: _as_json(value) for key, value in vars(rechecks).items()} if rechecks else {}),
        "simulations": work.get("simulations"),
        "layer_executions": work.get("layer_executions"),
        "sharing_factor": work.get("sharing_factor"),
        "seconds": work.get("seconds"),
    }
    folder = traces.folder.parent / "analysis" if traces.folder.name == "traces" else traces.folder / "analysis"
    page = write_analysis(folder, found, rechecks, traces.meta | {"prompt": traces.prompt.name}, work)
    write_whole(folder / "analysis.json", json.dumps(result, indent=2).encode())
    if not config.json_output:
        print(page.read_text(encoding="utf-8"))
    console.print(f"analysis: {page}", markup=False)
    return result


def _recheck(config: AnalyseConfig, traces: TraceSet, table: pd.DataFrame) -> Rechecks:
    questions = questions_of(config, traces)
    executor = open_executor(with_model(config, traces.meta["model"], traces.meta["dtype"]), traces.prompt)
    traces.require(executor)
    return recheck(executor, table, questions, config.execute, config.seed)


def _as_json(estimate: Estimate | None) -> dict[str, float] | None:
    """A share with its interval; None where there were no such questions."""
    return None if estimate is None else asdict(estimate)
