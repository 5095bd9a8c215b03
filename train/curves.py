"""What the value agent gains from more questions, more programs, later states, and at other prices: learning curves.

All by cross-validation on train and validation questions; test questions stay unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from polar_env.worlds import RecordedWorld
from train.config import ValueConfig
from train.value import OutOfFold, out_of_fold

__all__ = ["CURVES", "Point", "learning_curves"]

CURVES: dict[str, tuple[float, ...]] = {
    "questions": (150, 300, 600, 1200, 2400),
    "menu": (2, 4, 8, 16, 32, 64, 128, 256),
    "look": (0, 2, 4, 6, 8, 12, 16, 22),
    "price": (0.0, 0.2, 0.4, 0.8, 1.2, 2.0, 3.0, 4.0),
}
"""What is varied, and its values."""


@dataclass(frozen=True)
class Point:
    """A point of a curve.

    Attributes:
        curve: what is varied.
        value: its value; questions are those of a fold's training.
        judged: what the agent is worth there.
    """

    curve: str
    value: float
    judged: OutOfFold


def learning_curves(
    world: RecordedWorld, config: ValueConfig, seed: int = 0, on_point: Callable[[int], None] = lambda _: None
) -> Iterator[Point]:
    """Cross-validate at every point.

    Args:
        world: the world.
        config: the settings of all that is not varied.
        seed: of folds and of questions that are left out.
        on_point: called with 1 after each point.
    """
    rows = world.rows("train+validation")
    most = {
        "questions": len(rows) * (config.folds - 1) // config.folds,
        "menu": len(world.programs),
        "look": max(world.card.depths),
        "price": np.inf,
    }
    for curve, values in CURVES.items():
        for value in dict.fromkeys(min(value, most[curve]) for value in values):
            if curve == "look" and value not in world.card.depths:
                continue
            limit = int(value) if curve == "questions" and value < most[curve] else None
            varied = (
                config
                if curve == "questions"
                else config.model_copy(update={curve: value if curve == "price" else int(value)})
            )
            yield Point(curve, float(value), out_of_fold(world, rows, varied, seed, limit))
            on_point(1)
