"""What `render` shows of an episode: text, or a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polar_env.drawing import program_figure
from polar_env.program import Program

__all__ = ["RENDERING", "layer_glyphs", "outcome", "rendered"]

RENDERING = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}
"""What environments say of it in their metadata."""


def outcome(right: bool | None, gold: str, answer: str | None = None) -> str:
    """How an episode came out, in words.

    Args:
        right: the verdict; None while the episode runs.
        gold: the right answer.
        answer: what was answered; None where it was not kept.
    """
    if right is None:
        return "running"
    said = "" if answer is None else f"answered {answer!r}, "
    return said + ("right" if right else f"wrong (gold {gold!r})")


def layer_glyphs(layers: tuple[int, ...], depth: int) -> str:
    """One glyph per layer: · not run, █ once, 2 twice, and so on."""
    counts = Program(layers).executions(depth) if layers else [0] * depth
    return "".join("·" if n == 0 else "█" if n == 1 else str(min(n, 9)) for n in counts)


def rendered(
    mode: str | None, question: str, layers: tuple[int, ...], depth: int, came_out: str
) -> str | NDArray[np.uint8] | None:
    """An episode in a mode of `RENDERING`; None for no mode.

    Args:
        mode: ``"ansi"``: three lines, the question, one glyph per layer, program and outcome; ``"rgb_array"``: a
            picture, ``uint8 [height, width, 3]``, of one size for all programs of a model.
        question: its text.
        layers: those that were executed so far.
        depth: the model's depth.
        came_out: see `outcome`.
    """
    program = Program(layers) if layers else None
    if mode == "ansi":
        what = f"{program or 'nothing yet'} ({len(layers)}/{depth} layers): {came_out}"
        return f"{question}\n|{layer_glyphs(layers, depth)}|\n{what}"
    if mode == "rgb_array":
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(program_figure(program, depth, f"{question}  {came_out}"))
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return None
