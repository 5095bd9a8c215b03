"""An action language: one action leaves out one layer, or none, and the program is complete."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from polar_env.actions import Draft
from polar_env.errors import ForbiddenActionError, ProgramError
from polar_env.program import Program

__all__ = ["SkipOne"]


class SkipOne:
    """``Discrete(D + 1)``: action ``a < D`` leaves out layer ``a``; ``D`` executes all layers.

    Args:
        depth: the model's depth ``D``.
        max_layers: most layers that a program may execute; None is ``depth``.
    """

    def __init__(self, depth: int, max_layers: int | None = None) -> None:
        self.depth, self.n_actions = depth, depth + 1
        self.max_layers = depth if max_layers is None else max_layers

    def mask(self, draft: Draft) -> NDArray[np.bool_]:
        """Which actions are allowed, ``bool [D + 1]``, True = allowed."""
        mask = np.full(self.n_actions, self.max_layers >= self.depth - 1)
        mask[self.depth] = self.max_layers >= self.depth
        return mask

    def apply(self, draft: Draft, action: int) -> Draft:
        """The complete draft."""
        if not 0 <= action < self.n_actions or not self.mask(draft)[action]:
            raise ForbiddenActionError(f"action {action} is forbidden; choose among info['action_mask'].")
        layers = tuple(layer for layer in range(self.depth) if layer != action)
        return Draft(layers, self.depth, finished=True)

    def encode(self, program: Program) -> list[int]:
        """The one action that spells a program."""
        missing = sorted(set(range(self.depth)) - set(program.layers))
        action = missing[0] if missing else self.depth
        if self.apply(Draft(), action).layers != program.layers:
            raise ProgramError(f"the skip-one language cannot spell '{program}'; use the layers language.")
        return [action]

    def describe(self, action: int) -> str:
        """The action in words."""
        return f"leave out layer {action}" if action < self.depth else "execute all layers"
