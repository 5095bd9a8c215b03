"""TorchRL on an environment over a recorded world: its specs, its masks, and a rollout of random allowed actions.

    pip install 'polar-env[rl]' && python examples/torchrl_gymenv.py

For policies of your own see https://docs.pytorch.org/rl; a masked one reads ``action_mask``.
"""

from __future__ import annotations

import torch
import tyro
from tensordict import TensorDict
from torchrl.data import Binary
from torchrl.envs import GymEnv, TransformedEnv, default_info_dict_reader
from torchrl.envs.transforms import ActionMask
from torchrl.envs.utils import check_env_specs


def make_env(env_id: str) -> TransformedEnv:
    """The environment with its mask where TorchRL's own transform looks for it."""
    base = GymEnv(env_id, categorical_action_encoding=True)
    mask = Binary(base.action_spec.n, shape=(base.action_spec.n,), dtype=torch.bool)
    base.set_info_dict_reader(default_info_dict_reader(["action_mask"], spec={"action_mask": mask}))
    return TransformedEnv(base, ActionMask())


def main(env_id: str = "polar_env:SkillsSegments-SmolLM2-135M-v0", steps: int = 1000, seed: int = 0) -> TensorDict:
    """Check the environment's specs, and roll out."""
    env = make_env(env_id)
    check_env_specs(env, seed=seed)
    env.set_seed(seed)
    rollout = env.rollout(steps, break_when_any_done=False)
    episodes = int(rollout["next", "done"].sum())
    print(f"{steps} steps, {episodes} episodes, mean return {rollout['next', 'reward'].sum() / max(1, episodes):.3f}")
    return rollout


if __name__ == "__main__":
    tyro.cli(main)
