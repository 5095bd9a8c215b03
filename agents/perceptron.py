"""A perceptron with numpy alone: what networks that were trained with torch are at decision time.

Letters: ``N`` rows, ``I`` inputs, ``H`` hidden numbers, ``M`` outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.card import AgentCard
from agents.menu import MenuAgent, load_menu
from agents.reading import Arrays
from polar_env.worlds import AskWorld

if TYPE_CHECKING:
    from torch import nn

__all__ = ["KIND", "Perceptron", "load_perceptron"]

KIND = "perceptron"

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Perceptron:
    """Linear maps with a hyperbolic tangent between any two; one map alone is a linear function.

    Attributes:
        maps: weights ``float32 [inputs, outputs]`` and offsets ``float32 [outputs]`` of each.
    """

    maps: tuple[tuple[Array, Array], ...]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Perceptron:
        """From the arrays that `arrays` gave; others may be among them."""
        count = sum(name.startswith("map.") for name in arrays)
        return cls(tuple((arrays[f"map.{at}"], arrays[f"offset.{at}"]) for at in range(count)))

    @classmethod
    def of_torch(cls, network: nn.Sequential) -> Perceptron:
        """From a network of torch: linear maps with a hyperbolic tangent between any two, and perhaps dropout."""
        arrays = [each.detach().numpy() for each in network.parameters()]
        pairs = zip(arrays[::2], arrays[1::2], strict=True)
        return cls(tuple((weights.T.copy(), offsets) for weights, offsets in pairs))

    @classmethod
    def standardised(cls, maps: Sequence[tuple[Array, Array]], centre: Array, scale: float | Array) -> Perceptron:
        """One that takes raw inputs, from the maps of one that was fitted on ``(inputs - centre) / scale``."""
        (weights, offsets), *others = maps
        weights = weights / np.broadcast_to(scale, len(weights)).astype(np.float32)[:, None]
        return cls(((weights, offsets - centre @ weights), *others))

    def scores(self, observations: Array) -> Array:
        """Its outputs, ``[N, M]``, of inputs ``[N, I]``."""
        (weights, offsets), *others = self.maps
        values = observations @ weights + offsets
        for weights, offsets in others:
            values = np.tanh(values) @ weights + offsets
        return values

    def arrays(self) -> Arrays:
        """All that it consists of; see `of`."""
        return {
            f"{kind}.{at}": np.ascontiguousarray(array)  # safetensors writes memory as it lies
            for at, pair in enumerate(self.maps)
            for kind, array in zip(("map", "offset"), pair, strict=True)
        }

    @property
    def flops(self) -> float:
        """Floating-point operations for one row."""
        return 2.0 * sum(weights.size for weights, _ in self.maps)


def load_perceptron(folder: Path, card: AgentCard, world: AskWorld) -> MenuAgent:
    """A saved agent that a perceptron of the state makes; see `load_menu`.

    Raises:
        ConfigError: if the card lacks a setting.
        FingerprintError: if the card names no hash of the weights, or the world reduces states in another way.
    """
    return load_menu(folder, card, world, Perceptron.of)
