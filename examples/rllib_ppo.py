"""RLlib's PPO with its own module for masked actions, on an environment over a recorded world.

    pip install 'ray[rllib]' && python examples/rllib_ppo.py

``ray[rllib]`` 2.60 pins gymnasium 1.2.2, which polar-env runs with, too.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.examples.rl_modules.classes.action_masking_rlm import ActionMaskingTorchRLModule
from ray.tune.registry import register_env


class MaskInObservation(gym.Wrapper):
    """Puts the mask where RLlib's module looks for it, beside the flat observation."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(gym.wrappers.FlattenObservation(env))
        mask = gym.spaces.Box(0.0, 1.0, (env.action_space.n,), np.float32)
        self.observation_space = gym.spaces.Dict({"observations": self.env.observation_space, "action_mask": mask})
        self.action_space = gym.spaces.Discrete(env.action_space.n)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._with_mask(observation, info), info

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Take an action."""
        observation, reward, over, truncated, info = self.env.step(action)
        return self._with_mask(observation, info), float(reward), over, truncated, info

    def _with_mask(self, observation: Any, info: dict[str, Any]) -> dict[str, Any]:
        return {"observations": observation, "action_mask": info["action_mask"].astype(np.float32)}


def main(
    env_id: str = "polar_env:SkillsSegments-SmolLM2-135M-v0", iterations: int = 10, steps: int = 4000, seed: int = 0
) -> list[float]:
    """Train in this process; returns the mean return of each iteration's episodes."""
    register_env("polar", lambda _: MaskInObservation(gym.make(env_id)))
    config = (
        PPOConfig()
        .environment("polar")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8)
        .rl_module(rl_module_spec=RLModuleSpec(module_class=ActionMaskingTorchRLModule))
        .training(train_batch_size_per_learner=steps, minibatch_size=256, num_epochs=4, lr=3e-4, gamma=1.0)
        .debugging(seed=seed)
    )
    algorithm, returns = config.build_algo(), []
    for iteration in range(iterations):
        returns.append(float(algorithm.train()["env_runners"]["episode_return_mean"]))
        print(f"iteration {iteration + 1}: mean return {returns[-1]:.3f}")
    algorithm.stop()
    return returns


if __name__ == "__main__":
    tyro.cli(main)
