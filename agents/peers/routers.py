"""Small networks that route layers, evaluated in numpy: what Dr.LLM, BlockDrop and the block-loop router share.

Their score of a whole program is a sum of logits, those of the choices that make the program up; which those are is a
fixed matrix. What a network's choices mean, and which programs they can express, is in the method's own module.

Letters: ``N`` asks, ``O`` numbers of an observation, ``R`` routers, ``H`` hidden units, ``C`` outputs of a router,
``M`` programs.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from agents.card import AgentCard
from agents.menu import MenuAgent, load_menu
from agents.reading import Arrays
from polar_env.worlds import AskWorld

__all__ = ["RouterScorer", "load_routers"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class RouterScorer:
    """Linear, GELU, linear; then the logits of a program's choices are summed.

    Attributes:
        centre, scale: an observation is read as ``(observation - centre) / scale``, ``float32 [O]`` and ``[1]``.
        first, first_bias: ``float32 [R, O, H]`` and ``[R, 1, H]``.
        second, second_bias: ``float32 [R, H, C]`` and ``[R, 1, C]``.
        matrix: how often a program makes each choice, ``float32 [R * C, M]``.
    """

    centre: Array
    scale: Array
    first: Array
    first_bias: Array
    second: Array
    second_bias: Array
    matrix: Array

    @classmethod
    def of(cls, arrays: Arrays) -> RouterScorer:
        """From what `arrays` gave."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def arrays(self) -> Arrays:
        """See `agents.menu.Scorer`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def flops(self) -> float:
        """See `agents.menu.Scorer`."""
        return 2.0 * (self.first.size + self.second.size + self.matrix.size)

    def scores(self, observations: Array) -> Array:
        """See `agents.menu.Scorer`."""
        hidden = ((observations - self.centre) / self.scale) @ self.first + self.first_bias  # [R, N, H]
        hidden *= 0.5 * (1 + erf(hidden / np.sqrt(2)))
        logits = hidden @ self.second + self.second_bias  # [R, N, C]
        choices = np.moveaxis(logits, 0, 1).reshape(len(observations), -1)  # [N, R * C]
        scores: Array = (choices @ self.matrix).astype(np.float32)
        return scores


def load_routers(folder: Path, card: AgentCard, world: AskWorld) -> MenuAgent:
    """A saved agent of these networks; see `agents.menu.load_menu`."""
    return load_menu(folder, card, world, RouterScorer.of)
