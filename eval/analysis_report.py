"""The page of an analysis: Markdown from the template ``analysis.md``, figures, and their data as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.analysis import Analysis, Group
from eval.analysis_figures import figures_of, save_figure
from eval.rechecks import Rechecks
from eval.report.rendering import render
from eval.statistics import Estimate
from polar_env.tables import write_whole

__all__ = ["analysis_json", "write_analysis"]


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


def analysis_json(analysis: Analysis, rechecks: Rechecks | None, work: dict[str, float]) -> dict[str, Any]:
    """The findings under the keys that scripts read; arguments as in `write_analysis`."""
    return {
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
        **{key: work.get(key) for key in ("simulations", "layer_executions", "sharing_factor", "seconds")},
    }


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
