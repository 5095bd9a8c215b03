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

    Args:
        n: number of actions.
        current_mask: gives the actions that are allowed now; None where all are.
        first_mask: actions that are allowed when an episode starts. The first draw after ``seed()`` is one of them,
            since a caller that seeds and draws may reset before the step, as Gymnasium's checker does. Where
            possible that draw is allowed now, too.
    """

    def __init__(
        self,
        n: int,
        current_mask: Callable[[], NDArray[np.bool_] | None],
        first_mask: NDArray[np.bool_],
    ) -> None:
        self._current_mask, self._first_mask, self._seeded = current_mask, first_mask, False
        super().__init__(n)

    def seed(self, seed: int | None = None) -> int:
        """Seed the draws; see ``first_mask``."""
        self._seeded = True
        return super().seed(seed)

    def sample(self, mask: Any = None, probability: Any = None) -> np.int64:
        """Draw an action; without arguments among those that are allowed now."""
        if mask is None and probability is None:
            allowed = self._current_mask()
            if allowed is not None and self._seeded:
                both = allowed & self._first_mask
                allowed = both if both.any() else self._first_mask
            mask = None if allowed is None else allowed.astype(np.int8)
            self._seeded = False
        return super().sample(mask, probability)

    def __reduce__(self) -> tuple[type[spaces.Discrete], tuple[int]]:
        return spaces.Discrete, (int(self.n),)
