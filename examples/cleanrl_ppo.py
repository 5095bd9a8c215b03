"""PPO in one file, in CleanRL's style, with action masks, on an environment over a recorded world; no LLM runs.

    python examples/cleanrl_ppo.py --env-id polar_env:SkillsSegments-SmolLM2-135M-v0 --seed 1

Letters: ``T`` steps of a rollout, ``N`` lanes, ``F`` features, ``A`` actions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.distributions import Categorical

from train.static import static_of_world


@dataclass
class Args:
    """Settings."""

    env_id: str = "polar_env:Skills-SmolLM2-135M-v0"
    """an environment over a recorded world"""
    seed: int = 0
    """of everything random"""
    total_timesteps: int = 200_000
    """steps of all lanes together"""
    num_envs: int = 64
    """lanes N"""
    num_steps: int = 32
    """steps T of a rollout in each lane"""
    learning_rate: float = 1e-3
    """falls to 0 evenly"""
    gamma: float = 1.0
    """discount; an episode's reward counts whole"""
    gae_lambda: float = 0.95
    """of generalised advantage estimation"""
    num_minibatches: int = 4
    """of a rollout"""
    update_epochs: int = 4
    """passes over a rollout"""
    clip_coef: float = 0.2
    """of the ratio"""
    ent_coef: float = 0.01
    """of the entropy"""
    vf_coef: float = 0.5
    """of the value's loss"""
    max_grad_norm: float = 0.5
    """of a step"""


class Agent(nn.Module):
    """Actor and critic."""

    def __init__(self, features: int, actions: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, 128), nn.Tanh())
        self.actor, self.critic = nn.Linear(128, actions), nn.Linear(128, 1)
        nn.init.zeros_(self.actor.weight)

    def forward(self, observation: Tensor, mask: Tensor) -> tuple[Categorical, Tensor]:
        """A distribution over the allowed actions, and the value, ``[.., A]`` and ``[..]``."""
        hidden = self.body(observation)
        logits = self.actor(hidden).masked_fill(~mask, -1e9)
        return Categorical(logits=logits), self.critic(hidden).squeeze(-1)


def as_tensors(observation: dict[str, Any], infos: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The parts of observations side by side, ``[.., F]``, and masks ``[.., A]``."""
    parts = [torch.as_tensor(observation[name]) for name in sorted(observation)]
    return torch.cat(parts, -1), torch.as_tensor(infos["action_mask"])


@torch.no_grad()
def score(agent: Agent, env_id: str) -> dict[str, float]:
    """Greedy on every test question once.

    A score of 0 is the best static program's, 1 takes a right program wherever one is recorded.
    """
    env = gym.make(env_id, split="test")
    rules = env.unwrapped.rules  # type: ignore[attr-defined]
    rights, costs = [], []
    for row in rules.rows.tolist():
        (observation, info), over = env.reset(options={"question": row}), False
        while not over:
            policy, _ = agent(*as_tensors(observation, info))
            observation, _, over, _, info = env.step(policy.probs.argmax().numpy())
        rights.append(info["right"])
        costs.append(info["cost"])
    table = rules.world.arrays["right"][rules.rows]
    static = table[:, rules.world.programs.index(static_of_world(rules.world).program)].mean()
    right, oracle = float(np.mean(rights)), table.any(1).mean()
    return {"pass@1": right, "cost": float(np.mean(costs)), "best static": static,
            "oracle": oracle, "score": (right - static) / (oracle - static)}  # fmt: skip


def main(args: Args) -> dict[str, float]:
    """Train, and score on the test questions."""
    torch.manual_seed(args.seed)
    T, N = args.num_steps, args.num_envs
    envs = gym.make_vec(args.env_id, num_envs=N, split="train+validation")
    features, actions = gym.spaces.flatdim(envs.single_observation_space), envs.single_action_space.n
    agent = Agent(features, actions)
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5)
    observations, masks = torch.zeros(T, N, features), torch.zeros(T, N, actions, dtype=torch.bool)
    taken = torch.zeros(T, N, dtype=torch.long)
    log_probs, rewards, dones, values = (torch.zeros(T, N) for _ in range(4))
    observation, mask = as_tensors(*envs.reset(seed=args.seed))
    iterations, start = max(1, args.total_timesteps // (T * N)), time.perf_counter()
    for iteration in range(iterations):
        optimizer.param_groups[0]["lr"] = args.learning_rate * (1 - iteration / iterations)
        for t in range(T):
            observations[t], masks[t] = observation, mask
            with torch.no_grad():
                policy, values[t] = agent(observation, mask)
            taken[t] = policy.sample()
            log_probs[t] = policy.log_prob(taken[t])
            batch, reward, over, _, infos = envs.step(taken[t].numpy())
            observation, mask = as_tensors(batch, infos)  # of the next episode where one is over
            rewards[t], dones[t] = torch.as_tensor(reward), torch.as_tensor(over)
        with torch.no_grad():
            following = agent(observation, mask)[1]  # [N]
        advantages, running = torch.zeros(T, N), torch.zeros(N)
        for t in reversed(range(T)):
            delta = rewards[t] + args.gamma * following * (1 - dones[t]) - values[t]
            running = delta + args.gamma * args.gae_lambda * (1 - dones[t]) * running
            advantages[t], following = running, values[t]
        returns = advantages + values
        flat = [x.flatten(0, 1) for x in (observations, masks, taken, log_probs, advantages, returns)]
        for _ in range(args.update_epochs):
            for rows in torch.randperm(T * N).chunk(args.num_minibatches):
                seen, allowed, action, before, advantage, target = (x[rows] for x in flat)
                policy, value = agent(seen, allowed)
                ratio = (policy.log_prob(action) - before).exp()
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                gain = torch.minimum(ratio * advantage, ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef) * advantage)
                loss = args.vf_coef * (value - target).pow(2).mean() - gain.mean()
                loss = loss - args.ent_coef * policy.entropy().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                optimizer.step()
        if iteration % 10 == 0 or iteration == iterations - 1:
            steps = (iteration + 1) * T * N
            print(f"global_step={steps} reward={rewards.sum() / dones.sum().clamp(min=1):.3f} "
                  f"SPS={steps / (time.perf_counter() - start):.0f}")  # fmt: skip
    found = score(agent, args.env_id)
    print(", ".join(f"{name}={value:.3f}" for name, value in found.items()))
    return found


if __name__ == "__main__":
    main(tyro.cli(Args))
