"""The page of an analysis: Markdown from the template ``analysis.md``, figures, and their data as CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from eval.analysis import Analysis
from eval.analysis_figures import figures_of, save_figure
from eval.rechecks import Rechecks
from eval.report.rendering import render
from eval.statistics import Estimate
from polar_env.tables import write_whole

__all__ = ["write_analysis"]


def write_analysis(
    folder: Path, analysis: Analysis, rechecks: Rechecks | None, about: dict[str, Any], work: dict[str, float]
) -> Path:
    """Write page, figures and data into a folder.

    Args:
        folder: gets ``analysis.md``, its figures twice and four CSV files.
        analysis: the findings.
        rechecks: the shares of verdicts that stand when executed again; None where nothing was executed.
        about: model, depth, dtype, fingerprint and prompt of the traces.
        work: cost of the search; empty where nobody counted it.

    Returns:
        The path of the Markdown file.
    """
    _write_csv(folder / "layers.csv", "layer skipped repeated skipped_tried repeated_tried", _layers(analysis))
    _write_csv(folder / "menu.csv", "size added chosen_on held_out low high", _menu(analysis))
    analysis.lengths.to_csv(folder / "lengths.csv")
    _write_csv(folder / "groups.csv", "task difficulty questions source share value low high count", _groups(analysis))
    for name, draw in figures_of(analysis).items():
        save_figure(folder / name, draw, analysis)
    page = render("analysis.md", analysis=analysis, rechecks=rechecks, about=about, work=work)
    write_whole(folder / "analysis.md", page.encode())
    return folder / "analysis.md"


def _layers(analysis: Analysis) -> list[list[Any]]:
    columns = (
        analysis.right_use.skipped,
        analysis.right_use.repeated,
        analysis.all_use.skipped,
        analysis.all_use.repeated,
    )
    return [[layer, *(f"{column[layer]:.4f}" for column in columns)] for layer in range(len(columns[0]))]


def _menu(analysis: Analysis) -> list[list[Any]]:
    return [
        [point.size, point.added, *(f"{v:.4f}" for v in (point.chosen_on, *_interval(point.held_out)))]
        for point in analysis.menu
    ]


def _groups(analysis: Analysis) -> list[list[Any]]:
    """A row for each share and length of each task and difficulty."""
    rows: list[list[Any]] = []
    for (task, difficulty), group in analysis.by_group.items():
        shares = {("identity", "right"): group.identity, ("search", "shortest right layers / D"): group.lengths}
        for name in ("search", "chance", "singles"):
            reached = getattr(group, name)
            shares |= {(name, key): getattr(reached, key) for key in ("shorter", "fixed")}
        rows += [
            [task, difficulty, group.questions, *key, *(f"{v:.4f}" for v in _interval(estimate)), estimate.count]
            for key, estimate in shares.items()
            if estimate
        ]
    return rows


def _interval(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _write_csv(path: Path, columns: str, rows: list[list[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns.split(), *rows])
    write_whole(path, text.getvalue().encode())
