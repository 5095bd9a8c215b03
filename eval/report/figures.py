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

from eval.evaluate import ORACLE
from eval.report.examples import Example
from eval.summary import IDENTITY, MethodSummary
from polar_env.envs.rendering import COLOURS, draw_program

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DARK", "LIGHT", "Theme", "accuracy_figure", "examples_figure", "executions_figure", "png"]

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


def accuracy_figure(summaries: Mapping[str, MethodSummary], theme: Theme) -> Figure:
    """Draw pass@1 against executed layers: a point with its 95 % interval for each method."""
    figure = _figure(6.3, 3.9)
    axes = figure.add_subplot()
    for marker, summary in zip(itertools.cycle("os^vP*X"), summaries.values(), strict=False):
        estimate = summary.pass_at_1
        low, high = estimate.value - estimate.low, estimate.high - estimate.value
        axes.errorbar(
            summary.mean_cost,
            100 * estimate.value,
            yerr=[[100 * low], [100 * high]],
            capsize=4,
            label=summary.label,
            fmt="D" if summary.method == ORACLE else marker,
            color=theme.ink if summary.method == ORACLE else None,  # the oracle is no peer of the others
            alpha=0.8,
        )
    if IDENTITY in summaries:
        axes.axhline(100 * summaries[IDENTITY].pass_at_1.value, color=theme.line, lw=0.8, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("mean executed layers / D")
    axes.set_ylabel("pass@1, % (95 % interval)")
    figure.legend(fontsize=9, frameon=False, loc="outside upper left", ncols=3)
    return figure


def executions_figure(summaries: Mapping[str, MethodSummary], theme: Theme) -> Figure:
    """Draw how often each method executes each layer, as a heat map."""
    from matplotlib.colors import LinearSegmentedColormap

    figure = _figure(7.5, 1.0 + 0.4 * len(summaries))
    axes = figure.add_subplot()
    values = np.stack([summary.executions for summary in summaries.values()])  # [methods, D]
    colours = LinearSegmentedColormap.from_list("executions", theme.diverging)
    image = axes.imshow(values, aspect="auto", cmap=colours, vmin=0.0, vmax=2.0)
    axes.set_yticks(range(len(summaries)), list(summaries))
    axes.set_xticks(range(0, values.shape[1], max(1, values.shape[1] // 15)))
    axes.set_xlabel("layer")
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, label="mean executions", ticks=[0, 1, 2])
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
