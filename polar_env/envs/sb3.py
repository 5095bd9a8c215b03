"""Our vector environments as a Stable-Baselines3 `VecEnv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvObs, VecEnvStepReturn

from polar_env.envs.vector_env import ProgramVectorEnv
from polar_env.envs.world_env import WorldVectorEnv
from polar_env.errors import ConfigError

__all__ = ["ProgramVecEnv"]


class ProgramVecEnv(VecEnv):
    """Adapter: SB3 does not take a Gymnasium vector environment, though ours batches better than its own wrappers.

    Finished episodes carry ``infos[i]["episode"]`` (return and length), as SB3's monitor would write it.

    Args:
        env: the vector environment, with same-step autoreset.

    Raises:
        ConfigError: for another mode of autoreset.
    """

    def __init__(self, env: ProgramVectorEnv | WorldVectorEnv) -> None:
        if env.autoreset_mode != AutoresetMode.SAME_STEP:
            raise ConfigError(
                f"the vector environment resets in mode {env.autoreset_mode.value}, SB3 counts on SameStep; leave "
                "autoreset_mode away."
            )
        self.env = env
        self._actions: NDArray[np.int64] = np.zeros(env.num_envs, np.int64)
        self._lengths = np.zeros(env.num_envs, np.int64)
        self._returns = np.zeros(env.num_envs)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> VecEnvObs:
        """Start an episode in every lane."""
        seed = list(self._seeds) if any(s is not None for s in self._seeds) else None
        observation, infos = self.env.reset(seed=seed, options=self._options[0] or None)
        self._reset_seeds()
        self._reset_options()
        self._lengths[:] = 0
        self._returns[:] = 0.0
        self.reset_infos = [self._lane(infos, lane) for lane in range(self.num_envs)]
        return dict(observation)

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Take the kept actions."""
        observation, rewards, terminated, truncated, infos = self.env.step(self._actions)
        dones = terminated | truncated
        self._lengths += 1
        self._returns += rewards
        lanes = []
        for lane in range(self.num_envs):
            info = self._lane(infos, lane)
            if dones[lane]:
                info |= self._lane(infos["final_info"], lane)
                info["terminal_observation"] = infos["final_obs"][lane]
                info["TimeLimit.truncated"] = bool(truncated[lane] and not terminated[lane])
                info["episode"] = {"r": float(self._returns[lane]), "l": int(self._lengths[lane]), "t": 0.0}
                self._lengths[lane] = 0
                self._returns[lane] = 0.0
            lanes.append(info)
        return dict(observation), rewards.astype(np.float32), dones, lanes

    @staticmethod
    def _lane(infos: dict[str, Any], lane: int) -> dict[str, Any]:
        """One lane's part of Gymnasium's vector infos."""
        return {
            key: values[lane]
            for key, values in infos.items()
            if f"_{key}" in infos and infos[f"_{key}"][lane] and key not in ("final_obs", "final_info")
        }

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute, once for each lane asked for."""
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute, which all lanes share."""
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method that answers for all lanes; returns the answers of the lanes asked for."""
        answers: Sequence[Any] = getattr(self.env, method_name)(*args, **kwargs)
        return [answers[lane] for lane in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """No lane is wrapped: there are no single environments."""
        return [False] * len(list(self._get_indices(indices)))
