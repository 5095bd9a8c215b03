"""Programs as pictures: layers that run, are skipped, or loop; for environments, reports and notebooks."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from polar_env.program import Program

__all__ = ["COLOURS", "draw_program", "program_figure", "program_svg"]

COLOURS = {"skipped": "#e3e6ea", "once": "#4c78a8", "looped": "#e4572e", "running": "#f2b134"}


def draw_program(axes: Axes, program: Program | None, depth: int, title: str) -> None:
    """Draw a program as in PoLar's first figure: a row of layers; an arc over each loop, a gap where one skips.

    Args:
        axes: a matplotlib axes, cleared of its frame.
        program: the program; None draws a model of which nothing has run.
        depth: the model's depth.
        title: a line above.
    """
    from matplotlib.patches import Arc, FancyBboxPatch

    counts = program.executions(depth) if program else [0] * depth
    for layer, count in enumerate(counts):
        kind = "skipped" if count == 0 else "once" if count == 1 else "looped"
        box = FancyBboxPatch(
            (layer + 0.1, 0), 0.8, 1.0, boxstyle="round,pad=0,rounding_size=0.15", facecolor=COLOURS[kind], lw=0
        )
        axes.add_patch(box)
        colour = "#9aa0a6" if count == 0 else "white"
        axes.text(layer + 0.5, 0.5, str(layer), ha="center", va="center", fontsize=6, color=colour)
    for module in program.modules if program else ():
        if module.times > 1:
            width = module.last - module.first + 1
            centre = module.first + width / 2
            axes.add_patch(
                Arc((centre, 1.0), max(width - 0.3, 0.6), 1.3, theta1=0, theta2=180, color=COLOURS["looped"], lw=1.5)
            )
            axes.text(centre, 1.72, f"×{module.times}", ha="center", fontsize=7, color=COLOURS["looped"])
    axes.set_xlim(-0.2, depth + 0.2)
    axes.set_ylim(-0.2, 2.4)
    axes.axis("off")
    axes.set_title(title, fontsize=8, loc="left", pad=2)


def program_figure(program: Program | None, depth: int, title: str) -> Figure:
    """One program as a figure of its own; see `draw_program`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(4.0, depth * 0.28), 1.1), dpi=100, layout="constrained")
    draw_program(figure.add_subplot(), program, depth, title)
    return figure


def program_svg(program: Program) -> str:
    """A program as an SVG image, the same text each time; up to the last layer that it executes."""
    import matplotlib

    title = f"{program} ({len(program)} layers)"
    written = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "polar-env"}):
        program_figure(program, max(program.layers) + 1, title).savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()
