"""Pictures of a program: in text, and drawn as layers that ran, were skipped, or looped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polar_env.program import Program

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from polar_env.envs.episode import Episode

__all__ = ["draw_program", "layer_glyphs", "render_ansi", "render_rgb"]

COLOURS = {"skipped": "#e3e6ea", "once": "#4c78a8", "looped": "#e4572e", "running": "#f2b134"}


def _outcome(episode: Episode, answer: str) -> str:
    if episode.verdict is None:
        return "running"
    return f"answered {answer!r}, " + (
        "right" if episode.verdict.right else f"wrong (gold {episode.question.answer!r})"
    )


def layer_glyphs(layers: tuple[int, ...], depth: int) -> str:
    """One glyph per layer: · not run, █ once, 2 twice, and so on."""
    counts = Program(layers).executions(depth) if layers else [0] * depth
    return "".join("·" if n == 0 else "█" if n == 1 else str(min(n, 9)) for n in counts)


def render_ansi(episode: Episode, depth: int, answer: str) -> str:
    """Three lines: the question, one glyph per layer, program and outcome."""
    layers = episode.draft.layers
    program = str(Program(layers)) if layers else "nothing yet"
    what = f"{program} ({len(layers)}/{depth} layers): {_outcome(episode, answer)}"
    return f"{episode.question.text}\n|{layer_glyphs(layers, depth)}|\n{what}"


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


def render_rgb(episode: Episode, depth: int, answer: str) -> NDArray[np.uint8]:
    """The program so far as a picture, ``uint8 [height, width, 3]``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(4.0, depth * 0.28), 1.1), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    layers = episode.draft.layers
    title = f"{episode.question.text}  {_outcome(episode, answer)}"
    draw_program(figure.add_subplot(), Program(layers) if layers else None, depth, title)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
