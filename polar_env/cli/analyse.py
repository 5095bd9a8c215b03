"""``polar analyse``: what a trace set shows, as a page, figures, data files and JSON."""

from __future__ import annotations

import json
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

    from eval.rechecks import Rechecks
    from polar_env.traces import TraceSet

__all__ = ["CONFIG", "EXAMPLES", "AnalyseConfig", "run"]


class AnalyseConfig(QuestionsConfig):
    """How often other programs are right, shorter or better than the normal pass, with intervals and chance levels."""

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """A trace set, or the run that holds one; by default OUT. The page goes into its folder analysis."""
    execute: Annotated[int, Field(ge=0)] = 100
    """Verdicts, and fixes, that are executed again to see whether they stand; 0 executes none and loads no model."""
    menu_size: Annotated[int, Field(ge=1)] = 20
    """Programs in the largest menu."""


CONFIG = AnalyseConfig
EXAMPLES = ("polar analyse runs/mine --execute 20",)


def run(config: AnalyseConfig) -> dict[str, Any]:
    """Analyse; everything lies in the trace set's folder ``analysis``."""
    from eval.analysis import analyse
    from eval.analysis_report import analysis_json, write_analysis

    traces = open_traces(config.folder or config.out)
    table = traces.table()
    if not table["stage"].isin([TREE, IMPORTED]).any():
        raise TraceError(f"{traces.folder} holds no trees; `polar search --out DIR` makes them.")
    analysis = analyse(table, traces.depth, config.menu_size)
    rechecks = _recheck(config, traces, table) if config.execute else None
    result = analysis_json(analysis, rechecks, traces.work)
    folder = traces.folder.parent / "analysis" if traces.folder.name == "traces" else traces.folder / "analysis"
    page = write_analysis(folder, analysis, rechecks, traces.meta | {"prompt": traces.prompts.name}, traces.work)
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
