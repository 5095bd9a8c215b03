"""The menu of a recorded world at a price that is drawn anew for each question: where the program predictor learns.

Letters: ``N`` lanes, ``Q`` questions, ``M`` programs of the menu.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn

from agents.predictor import correction_inputs
from train.crossfit import CrossFitted

__all__ = ["PricedMenu"]


class PricedMenu(VecEnv):
    """``N`` lanes of one-step episodes: a question and a price, a program of the menu, its reward.

    Observations are `correction_inputs`; the reward is what the program is worth, see `targets_of`, minus price times
    its cost. Where the value model's doubt is large only the identity is allowed, as the agent will decide.

    Args:
        fitted: the questions.
        lanes: how many ``N``.
        most_price: prices are drawn evenly from 0 to this.
        most_doubt: see `ValueConfig`.
    """

    def __init__(self, fitted: CrossFitted, lanes: int, *, most_price: float, most_doubt: float) -> None:
        self.fitted, self.most_price, self.render_mode = fitted, most_price, None
        self.masks = np.ones(fitted.worth.shape, bool)
        self.masks[fitted.doubt > most_doubt, 1:] = False
        self.rng = np.random.default_rng()
        self.rows, self.prices = np.zeros(lanes, np.intp), np.zeros(lanes, np.float32)
        self._actions: NDArray[np.int64] = np.zeros(lanes, np.int64)
        size = 1 + fitted.observations.shape[1] + fitted.values.shape[1]
        super().__init__(
            lanes, spaces.Box(-np.inf, np.inf, (size,), np.float32), spaces.Discrete(fitted.worth.shape[1])
        )

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Seed the draws of questions and prices."""
        self.rng = np.random.default_rng(seed)
        return [seed] * self.num_envs

    def reset(self) -> VecEnvObs:
        """Draw a question and a price for every lane."""
        self.rows = self.rng.integers(len(self.masks), size=self.num_envs)
        self.prices = (self.most_price * self.rng.random(self.num_envs)).astype(np.float32)
        return correction_inputs(self.prices, self.fitted.observations[self.rows], self.fitted.values[self.rows])

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Pay for the kept actions; every episode is over."""
        rewards = self.fitted.worth[self.rows, self._actions] - self.prices * self.fitted.costs[self._actions]
        return self.reset(), rewards.astype(np.float32), np.ones(self.num_envs, bool), [{} for _ in self.rows]

    def action_masks(self) -> NDArray[np.bool_]:
        """Allowed programs of every lane, ``bool [N, M]``, True = allowed."""
        return self.masks[self.rows]

    def close(self) -> None:
        """There is nothing to close."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute, once for each lane asked for."""
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute, which all lanes share."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method that answers for all lanes; returns the answers of the lanes asked for."""
        answers = getattr(self, method_name)(*args, **kwargs)
        return [answers[lane] for lane in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """No lane is wrapped: there are no single environments."""
        return [False] * len(list(self._get_indices(indices)))
