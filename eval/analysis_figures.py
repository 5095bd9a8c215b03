"""The figures of an analysis, as SVG and PNG."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from eval.analysis import Analysis
from polar_env.tables import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Draw", "figures_of", "save_figure"]

Draw = Callable[["Axes", Analysis], None]
_SEARCH, _CHANCE, _GREY, _INK = "#2a6fdb", "#c9c9c9", "#777777", "#222222"


def figures_of(analysis: Analysis) -> dict[str, Draw]:
    """The figures that an analysis has, by file name without ending."""
    figures: dict[str, Draw] = {"shares": _draw_shares, "layers": _draw_layers}
    return figures | ({"menu": _draw_menu} if analysis.menu else {})


def save_figure(stem: Path, draw: Draw, analysis: Analysis) -> None:
    """Draw a figure and write it as SVG and as PNG.

    Args:
        stem: path without ending.
        draw: draws on the axes.
        analysis: the findings.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes, analysis)
    for kind in ("svg", "png"):
        sink = io.BytesIO()
        # Without a date and with fixed ids, the same analysis is the same file.
        metadata = {"Date": None} if kind == "svg" else None
        with rc_context({"svg.hashsalt": stem.name}):
            figure.savefig(sink, format=kind, dpi=130, metadata=metadata)
        write_whole(stem.with_suffix(f".{kind}"), sink.getvalue())


def _draw_shares(axes: Axes, analysis: Analysis) -> None:
    names = ["a shorter program\nis right, too", "some program is right\nwhere the identity is wrong"]
    sources = {
        "search": (analysis.overall.search, _SEARCH),
        "chance": (analysis.overall.chance, _CHANCE),
        "single edits": (analysis.overall.singles, _GREY),
    }
    for offset, (label, (reached, colour)) in enumerate(sources.items()):
        for row, estimate in enumerate((reached.shorter, reached.fixed)):
            if estimate is None:
                continue
            error = [[100 * (estimate.value - estimate.low)], [100 * (estimate.high - estimate.value)]]
            axes.barh(
                row + 0.27 * (offset - 1), 100 * estimate.value, 0.24, color=colour, xerr=error, ecolor=_INK,
                label=label if label not in axes.get_legend_handles_labels()[1] else None,
            )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of questions, 95 % interval")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))


def _draw_layers(axes: Axes, analysis: Analysis) -> None:
    layers = range(len(analysis.right_use.skipped))
    for use, colour, name in ((analysis.right_use, _SEARCH, "right programs"), (analysis.all_use, _GREY, "all tried")):
        axes.plot(layers, 100 * use.skipped, color=colour, label=f"skipped, {name}")
        axes.plot(layers, 100 * use.repeated, color=colour, linestyle="--", label=f"repeated, {name}")
    axes.set_xlabel("layer")
    axes.set_ylabel("% of programs")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize="small")


def _draw_menu(axes: Axes, analysis: Analysis) -> None:
    sizes = [point.size for point in analysis.menu]
    axes.plot(sizes, [100 * p.chosen_on for p in analysis.menu], color=_GREY, linestyle="--", label="chosen on")
    axes.plot(sizes, [100 * p.held_out.value for p in analysis.menu], color=_SEARCH, label="held out")
    low, high = [100 * p.held_out.low for p in analysis.menu], [100 * p.held_out.high for p in analysis.menu]
    axes.fill_between(sizes, low, high, color=_SEARCH, alpha=0.15, linewidth=0)
    axes.set_xlabel("programs in the menu, the identity among them")
    axes.set_ylabel("% of questions with a right one")
    axes.legend(frameon=False)
