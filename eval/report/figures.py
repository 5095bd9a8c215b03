"""The figures of a report, drawn for a light and for a dark page.

Letters: ``D`` the model's depth.
"""

from __future__ import annotations

import io
import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eval.comparison import ALL_TASKS, Comparisons
from eval.frontier import frontier
from eval.report.examples import Example
from eval.summary import MethodSummary
from polar_env.drawing import COLOURS, draw_program

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "DARK",
    "LIGHT",
    "Theme",
    "accuracy_figure",
    "calibration_figure",
    "examples_figure",
    "executions_figure",
    "headline_figure",
    "png",
    "task_executions_figure",
    "tasks_figure",
]

_DPI = 150
_TITLE_LENGTH = 110


@dataclass(frozen=True)
class Theme:
    """Colours of a figure.

    Attributes:
        paper: background, the same as the page's.
        ink: text and axes.
        line: grid lines.
        skipped: a skipped layer.
        diverging: zero, one and two executions of a layer.
    """

    paper: str
    ink: str
    line: str
    skipped: str
    diverging: tuple[str, str, str]


LIGHT = Theme("#ffffff", "#1d2330", "#b0b5bf", COLOURS["skipped"], ("#2a6fdb", "#f4f4f4", "#d6402b"))
DARK = Theme("#14171d", "#dfe3ea", "#4a5160", "#2c313b", ("#5b97f0", "#262b34", "#ee6a55"))


def png(draw: Callable[[Theme], Figure], theme: Theme) -> bytes:
    """Draw a figure in a theme's colours and return the PNG file.

    Args:
        draw: makes the figure.
        theme: the colours.
    """
    from matplotlib import rc_context

    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings: dict[Any, Any] = dict.fromkeys(inked, theme.ink)
    settings |= dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), theme.paper)
    sink = io.BytesIO()
    with rc_context(settings):
        draw(theme).savefig(sink, format="png", dpi=_DPI)
    return sink.getvalue()


def headline_figure(comparisons: Mapping[str, Comparisons], methods: Sequence[str], theme: Theme) -> Figure:
    """Draw the paired differences of some methods against each baseline, over all questions."""
    rows = [
        (f"{name} - {each.base}", each)
        for of in comparisons.values()
        for name in methods
        if name in of and (each := of[name][ALL_TASKS])
    ]
    figure = _figure(7.5, 0.8 + 0.42 * len(rows))
    axes = figure.add_subplot()
    for place, (_, each) in enumerate(rows):
        delta = each.delta
        error = [[100 * (delta.value - delta.low)], [100 * (delta.high - delta.value)]]
        axes.errorbar(100 * delta.value, -place, xerr=error, fmt="o", capsize=4, color=theme.ink)
    axes.axvline(0, color=theme.line, lw=0.8, zorder=0)
    axes.set_yticks([-place for place in range(len(rows))], [label for label, _ in rows])
    axes.set_ylim(-len(rows) + 0.5, 0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("difference in points, paired (95 % interval)")
    return figure


def accuracy_figure(summaries: Mapping[str, MethodSummary], theme: Theme) -> Figure:
    """Draw pass@1 against executed layers: a point with its 95 % interval for each method, and the static frontier."""
    figure = _figure(6.8, 4.2)
    axes = figure.add_subplot()
    peers = [summary for summary in summaries.values() if summary.role != "oracle"]
    everything = max(summary.pass_at_1.count for summary in peers)
    for marker, summary in zip(itertools.cycle("os^vP*XD<>h"), peers, strict=False):
        estimate = summary.pass_at_1
        low, high = estimate.value - estimate.low, estimate.high - estimate.value
        axes.errorbar(
            summary.mean_cost,
            100 * estimate.value,
            yerr=[[100 * low], [100 * high]],
            capsize=4,
            label=summary.method + ("" if estimate.count == everything else f" ({estimate.count} questions)"),
            fmt=marker,
            alpha=0.8,
        )
    static = [each for each in peers if each.role == "static" and each.pass_at_1.count == everything]
    if static:
        costs, shares = (np.array(v) for v in zip(*((s.mean_cost, s.pass_at_1.value) for s in static), strict=True))
        at = np.linspace(costs.min(), max(summary.mean_cost for summary in peers), 100)
        axes.plot(at, 100 * frontier(costs, shares, at), color=theme.line, lw=1, zorder=0, label="static frontier")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("mean executed layers / D")
    axes.set_ylabel("pass@1, % (95 % interval)")
    figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    return figure


def tasks_figure(comparisons: Comparisons, theme: Theme) -> Figure:
    """Draw how many points methods are above the identity on each task, paired, as a heat map.

    Args:
        comparisons: with the identity.
        theme: the colours.
    """
    from matplotlib.colors import LinearSegmentedColormap

    tasks = list(dict.fromkeys(task for of in comparisons.values() for task in of))
    values = np.array(
        [[100 * of[task].delta.value if task in of else np.nan for of in comparisons.values()] for task in tasks]
    )
    figure = _figure(2.5 + 0.75 * len(comparisons), 1.8 + 0.32 * len(tasks))
    axes = figure.add_subplot()
    colours = LinearSegmentedColormap.from_list("points", theme.diverging)
    image = axes.imshow(values, aspect="auto", cmap=colours, vmin=-20, vmax=20)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            axes.text(column, row, f"{value:+.0f}", ha="center", va="center", fontsize=8)
    axes.set_yticks(range(len(tasks)), tasks, fontsize=9)
    axes.set_xticks(range(len(comparisons)), list(comparisons), rotation=35, ha="right", fontsize=9)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, label="points against the identity, paired")
    bar.outline.set_visible(False)
    return figure


def task_executions_figure(executions: Mapping[str, NDArray[np.float64]], method: str, theme: Theme) -> Figure:
    """Draw how often a method executes each layer on each task, ``[D]`` each."""
    return _heat_map(executions, f"mean executions, {method}", theme)


def calibration_figure(rows: pd.DataFrame, methods: Sequence[str], theme: Theme) -> Figure:
    """Draw the share of right answers against the LLM's own confidence in them, in ten groups of equal size."""
    figure = _figure(5.6, 4.2)
    axes = figure.add_subplot()
    axes.plot([0, 100], [0, 100], color=theme.line, lw=0.8, zorder=0)
    for marker, name in zip(itertools.cycle("os^vP*X"), methods, strict=False):
        of_method = rows[rows["method"] == name]
        groups = of_method.groupby(pd.qcut(of_method["confidence"].rank(method="first"), 10, labels=False))
        means = groups[["confidence", "right"]].mean()
        axes.plot(100 * means["confidence"], 100 * means["right"], marker=marker, lw=1, label=name)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("confidence of the answer, %")
    axes.set_ylabel("right answers, %")
    axes.legend(fontsize=9, frameon=False)
    return figure


def executions_figure(summaries: Mapping[str, MethodSummary], theme: Theme) -> Figure:
    """Draw how often each method executes each layer, as a heat map."""
    return _heat_map({name: summary.executions for name, summary in summaries.items()}, "mean executions", theme)


def _heat_map(rows: Mapping[str, NDArray[np.float64]], label: str, theme: Theme) -> Figure:
    """Rows of executions, 0 to 2 of each layer."""
    from matplotlib.colors import LinearSegmentedColormap

    figure = _figure(7.5, 1.0 + 0.4 * len(rows))
    axes = figure.add_subplot()
    values = np.stack(list(rows.values()))  # [rows, D]
    colours = LinearSegmentedColormap.from_list("executions", theme.diverging)
    image = axes.imshow(values, aspect="auto", cmap=colours, vmin=0.0, vmax=2.0)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_xticks(range(0, values.shape[1], max(1, values.shape[1] // 15)))
    axes.set_xlabel("layer")
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, label=label, ticks=[0, 1, 2])
    bar.outline.set_visible(False)
    return figure


def examples_figure(examples: Sequence[Example], depth: int, theme: Theme, titles: bool = True) -> Figure:
    """Draw programs below each other.

    Args:
        examples: one program or more.
        depth: the model's depth.
        theme: the colours.
        titles: write method, question and verdict above each program.
    """
    figure = _figure(9, (1.05 if titles else 0.85) * len(examples))
    for axes, example in zip(figure.subplots(len(examples), 1, squeeze=False)[:, 0], examples, strict=True):
        draw_program(axes, example.program, depth, _title(example) if titles else "")
        for executions, box in zip(example.program.executions(depth), axes.patches, strict=False):
            if executions == 0:
                box.set_facecolor(theme.skipped)
    return figure


def _title(example: Example) -> str:
    question = textwrap.shorten(example.question, _TITLE_LENGTH, placeholder=" ...")
    text = f"{example.method}: {question}  gold {example.gold}: {example.verdict}, {example.layers} layers"
    return text.replace("$", r"\$")  # matplotlib reads text between dollars as mathematics


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
