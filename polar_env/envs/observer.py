"""What an agent sees: asks and partly written programs, as arrays. No answer comes near it.

Axis letters: ``D`` the model's depth, ``H`` its width, ``A`` actions, ``N`` rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from polar_env.actions import Draft, ListedLanguage
from polar_env.envs.config import EnvConfig
from polar_env.questions import Ask
from polar_env.worlds import AskWorld

__all__ = ["Observation", "Observer"]

Observation = dict[str, NDArray[np.float32]]


class Observer:
    """Observations and action masks of drafts on asks.

    Args:
        world: executes the layers whose hidden states are observed.
        config: action language, and what is observed.
    """

    def __init__(self, world: AskWorld, config: EnvConfig) -> None:
        self.world, self.depth = world, world.depth
        language = config.make_language(world.depth)
        self.language = language if world.programs is None else ListedLanguage(language, world.programs)
        self.observe_layers = config.observe == "layers"
        self.observation_space = spaces.Dict(
            {
                "hidden": spaces.Box(-world.observed.bound, world.observed.bound, (world.observed.size,), np.float32),
                "program": spaces.Box(0.0, float(self.language.max_layers), (self.depth,), np.float32),
                "cursor": spaces.Box(0.0, 1.0, (1,), np.float32),
                "budget": spaces.Box(0.0, 1.0, (1,), np.float32),
            }
        )
        self.action_space = spaces.Discrete(self.language.n_actions)

    def observe(self, asks: Sequence[Ask], drafts: Sequence[Draft]) -> Observation:
        """Observations of ``N`` drafts, each array ``float32 [N, ...]`` and freshly made."""
        layers = [draft.layers if self.observe_layers else () for draft in drafts]
        hidden = self.world.observations(list(zip(asks, layers, strict=True)))
        counts = np.zeros((len(drafts), self.depth), np.float32)
        for row, draft in zip(counts, drafts, strict=True):
            if draft.layers:
                row[:] = np.bincount(draft.layers, minlength=self.depth)
        cursor = [[draft.cursor / self.depth] for draft in drafts]
        budget = [[1.0 - len(draft.layers) / self.language.max_layers] for draft in drafts]
        return {
            "hidden": hidden,
            "program": counts,
            "cursor": np.array(cursor, np.float32),
            "budget": np.array(budget, np.float32),
        }

    def mask(self, draft: Draft) -> NDArray[np.bool_]:
        """Allowed actions, ``bool [A]``, True = allowed; all True once the program is complete."""
        if draft.finished:
            return np.ones(self.language.n_actions, dtype=bool)
        return self.language.mask(draft)
