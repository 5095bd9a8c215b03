"""A discrete action space that knows which actions are allowed now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

__all__ = ["MaskedDiscrete"]


class MaskedDiscrete(spaces.Discrete):
    """A `Discrete` whose plain ``sample()`` draws among the actions that are allowed now.

    So a random loop, and the environment checkers, play valid episodes. Copies and pickles are a plain `Discrete`:
    a saved agent must not drag the environment, and with it the LLM, along.
    """

    def __init__(self, n: int, current_mask: Callable[[], NDArray[np.bool_] | None]) -> None:
        super().__init__(n)
        self._current_mask = current_mask

    def sample(self, mask: Any = None, probability: Any = None) -> np.int64:
        """Draw an action; without arguments among those that are allowed now."""
        if mask is None and probability is None:
            current = self._current_mask()
            mask = None if current is None else current.astype(np.int8)
        return super().sample(mask, probability)

    def __reduce__(self) -> tuple[type[spaces.Discrete], tuple[int]]:
        return spaces.Discrete, (int(self.n),)
