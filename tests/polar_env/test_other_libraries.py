"""Other libraries run the vector environment: a plain PPO loop, SB3, TorchRL, RLlib; each as its users would.

TorchRL and RLlib are not installed with the project: `pip install torchrl`, `pip install 'ray[rllib]'`. The latter pins
gymnasium 1.2.2; ray 2.60.0 installed with `--no-deps` runs this with gymnasium 1.4.0.
Axis letters: ``T`` steps, ``N`` lanes, ``A`` actions, ``F`` features.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers.vector import FlattenObservation
from numpy.typing import NDArray
from torch import Tensor, nn

from polar_env import FrozenLLM, ProgramEnv, ProgramVectorEnv, Prompt
from polar_env.envs.sb3 import ProgramVecEnv
from tests.planted import PlantedWorld, planted_questions

QUESTIONS = planted_questions(20)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def planted(tiny_llm: FrozenLLM, prompt: Prompt) -> PlantedWorld:
    return PlantedWorld(tiny_llm, prompt)


def replay(env: ProgramEnv, question: str, actions: Any) -> tuple[list[float], dict[str, NDArray[np.float32]]]:
    """Rewards and last observation of these actions in a single environment."""
    observation, _ = env.reset(options={"question": [q.id for q in QUESTIONS].index(question)})
    rewards = []
    for action in actions:
        observation, reward, terminated, _, _ = env.step(action)
        rewards.append(reward)
    assert terminated
    return rewards, observation


class Policy(nn.Module):
    """Actor and critic on the flattened observation, in CleanRL's style."""

    def __init__(self, env: VectorEnv) -> None:
        super().__init__()
        features, actions = gym.spaces.flatdim(env.single_observation_space), env.single_action_space.n
        self.actor = nn.Sequential(nn.Linear(features, 32), nn.Tanh(), nn.Linear(32, actions))
        self.critic = nn.Sequential(nn.Linear(features, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, observation: Tensor, masks: Tensor) -> tuple[torch.distributions.Categorical, Tensor]:
        logits = self.actor(observation).masked_fill(~masks, -1e9)
        return torch.distributions.Categorical(logits=logits), self.critic(observation).squeeze(-1)


def flat(observation: dict[str, NDArray[np.float32]]) -> Tensor:
    return torch.cat([torch.as_tensor(observation[name]) for name in sorted(observation)], dim=-1)


def test_a_plain_ppo_loop(planted: PlantedWorld) -> None:
    """Rollout, generalised advantages and PPO updates in one file; the value after an end is that of ``final_obs``."""
    steps, gamma, smooth = 32, 0.99, 0.95
    env = gym.make_vec("polar_env:ProgramOfLayers-v0", num_envs=8, model=planted, questions=QUESTIONS)
    torch.manual_seed(0)
    policy = Policy(env)
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    batch, infos = env.reset(seed=0)
    before = [weight.clone() for weight in policy.parameters()]
    ends = 0
    for _ in range(4):
        observations = torch.zeros(steps, 8, gym.spaces.flatdim(env.single_observation_space))  # [T, N, F]
        masks = torch.zeros(steps, 8, env.single_action_space.n, dtype=torch.bool)  # [T, N, A]
        actions = torch.zeros(steps, 8, dtype=torch.long)  # [T, N], as all below
        log_probs, rewards, values, next_values = (torch.zeros(steps, 8) for _ in range(4))
        terminated, done = torch.zeros(steps, 8), torch.zeros(steps, 8)
        for t in range(steps):
            observations[t], masks[t] = flat(batch), torch.as_tensor(infos["action_mask"])
            with torch.no_grad():
                distribution, values[t] = policy(observations[t], masks[t])
            actions[t] = distribution.sample()
            log_probs[t] = distribution.log_prob(actions[t])
            batch, reward, over, truncated, infos = env.step(actions[t].numpy())
            rewards[t], terminated[t], done[t] = map(torch.as_tensor, (reward, over, over | truncated))
            following = flat(batch)  # [N, F]
            for lane in np.flatnonzero(over | truncated):
                final = infos["final_obs"][lane]
                assert final["program"].sum() == infos["final_info"]["layers"][lane] > 0
                assert batch["program"][lane].sum() == 0
                following[lane] = flat(final)
                ends += 1
            with torch.no_grad():
                next_values[t] = policy(following, torch.as_tensor(infos["action_mask"]))[1]
        advantages, running = torch.zeros(steps, 8), torch.zeros(8)
        for t in reversed(range(steps)):
            delta = rewards[t] + gamma * next_values[t] * (1 - terminated[t]) - values[t]
            advantages[t] = running = delta + gamma * smooth * (1 - done[t]) * running
        distribution, value = policy(observations, masks)
        ratio = (distribution.log_prob(actions) - log_probs).exp()
        clipped = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
        loss = -clipped + 0.5 * (value - values - advantages).pow(2).mean() - 0.01 * distribution.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
        assert masks.gather(2, actions.unsqueeze(-1)).all()
    assert ends > 20
    assert all((weight != old).any() for weight, old in zip(policy.parameters(), before, strict=True))


def test_stable_baselines3(planted: PlantedWorld) -> None:
    from sb3_contrib import MaskablePPO
    from sb3_contrib.common.maskable.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecMonitor

    env = ProgramVecEnv(ProgramVectorEnv(4, planted, QUESTIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MaskablePPO("MultiInputPolicy", env, n_steps=32, batch_size=64, n_epochs=1, seed=0, device="cpu")
        model.learn(256)
        assert model.num_timesteps == 256
        assert {"r", "l"} <= model.ep_info_buffer[0].keys()
        observation = env.reset()
        for _ in range(10):
            masks = np.stack(env.env_method("action_masks"))
            actions, _ = model.predict(observation, action_masks=masks)
            assert masks[np.arange(4), actions].all()
            observation, *_ = env.step(actions)
        returns, lengths = evaluate_policy(model, VecMonitor(env), n_eval_episodes=12, return_episode_rewards=True)
    assert len(returns) == 12
    assert min(lengths) >= 2
    assert all(-0.21 < value < 1.0 for value in returns)  # an answer is worth 1, its layers cost up to 0.2


def test_torchrl(planted: PlantedWorld) -> None:
    """TorchRL resets the lanes that are over itself, so autoreset is disabled, which its own documentation prefers.

    Its wrapper (0.14.1) cannot take same-step autoreset here: it then steps once with an action drawn regardless of
    masks, and it reads zeros as the last observation where observations are a dict.
    """
    pytest.importorskip("torchrl", reason="needs TorchRL: pip install torchrl")
    from torchrl.data import Binary
    from torchrl.envs import GymWrapper, TransformedEnv, default_info_dict_reader
    from torchrl.envs.transforms import ActionMask
    from torchrl.envs.utils import check_env_specs

    lanes = ProgramVectorEnv(4, planted, QUESTIONS, autoreset_mode="Disabled")
    base = GymWrapper(lanes, categorical_action_encoding=True)
    mask = Binary(6, shape=(4, 6), dtype=torch.bool)
    base.set_info_dict_reader(default_info_dict_reader(["action_mask"], spec={"action_mask": mask}))
    env = TransformedEnv(base, ActionMask())
    check_env_specs(env, seed=0)
    env.set_seed(0)
    rollout = env.rollout(50, break_when_any_done=False)
    assert rollout.batch_size == (4, 50)
    assert rollout["action_mask"].gather(-1, rollout["action"].unsqueeze(-1)).all()
    assert rollout["next", "done"].sum() > 20
    single = ProgramEnv(planted, QUESTIONS)
    for lane in range(4):
        single.reset(seed=lane)  # TorchRL seeds by a reset, and a rollout begins with another
        observation, _ = single.reset()
        for moment in rollout[lane]:
            np.testing.assert_allclose(moment["hidden"], observation["hidden"], atol=2e-3)
            np.testing.assert_array_equal(moment["action_mask"], single.action_masks())
            observation, reward, over, _, _ = single.step(moment["action"].item())
            np.testing.assert_allclose(moment["next", "hidden"], observation["hidden"], atol=2e-3)
            assert moment["next", "reward"].item() == pytest.approx(reward)
            assert moment["next", "terminated"].item() == over
            if over:
                observation, _ = single.reset()


class MaskInObservation(VectorWrapper):
    """Puts the mask where RLlib's own action-masking module looks for it."""

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        mask = gym.spaces.Box(0.0, 1.0, (env.single_action_space.n,), np.float32)
        self.single_observation_space = gym.spaces.Dict(
            {"observations": env.single_observation_space, "action_mask": mask}
        )
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        observation, infos = self.env.reset(seed=seed, options=options)
        return {"observations": observation, "action_mask": infos["action_mask"].astype(np.float32)}, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, *rest, infos = self.env.step(actions)
        return {"observations": observation, "action_mask": infos["action_mask"].astype(np.float32)}, *rest, infos


world: PlantedWorld | None = None
"""What `make_for_rllib` runs: RLlib pickles the maker, which must not hold a model."""


def make_for_rllib(config: dict[str, Any]) -> VectorEnv:
    env = ProgramVectorEnv(config["num_envs"], world, QUESTIONS, autoreset_mode="NextStep")
    return MaskInObservation(FlattenObservation(env))


def test_rllib(planted: PlantedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """RLlib's own environment runner samples with its own masked policy; no cluster is started.

    It expects next-step autoreset without asking: in 2.60 the step after an end only starts the next episode, so a
    same-step environment would lose the first action and reward of each, without an error.
    """
    pytest.importorskip("ray.rllib", reason="needs RLlib: pip install 'ray[rllib]'")
    import ray
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
    from ray.rllib.examples.rl_modules.classes.action_masking_rlm import ActionMaskingTorchRLModule
    from ray.tune.registry import register_env

    monkeypatch.setattr(sys.modules[__name__], "world", planted)
    register_env("planted", make_for_rllib)
    config = (
        PPOConfig()
        .environment("planted")
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=4,
            gym_env_vectorize_mode=gym.VectorizeMode.VECTOR_ENTRY_POINT,
        )
        .rl_module(rl_module_spec=RLModuleSpec(module_class=ActionMaskingTorchRLModule))
        .debugging(seed=0)
    )
    runner = SingleAgentEnvRunner(config=config)
    episodes = [episode for _ in range(2) for episode in runner.sample(num_timesteps=100)]
    assert runner.get_metrics()["num_env_steps_sampled"] is not None
    runner.stop()
    whole = [episode for episode in episodes if episode.is_done and episode.t_started == 0]
    assert len(whole) > 10
    single = ProgramEnv(planted, QUESTIONS)
    for episode in whole:
        rewards, last = replay(single, episode.get_infos(0)["question"], episode.get_actions())
        assert episode.get_rewards().tolist() == pytest.approx(rewards)
        shown = episode.get_observations(-1)["observations"]
        np.testing.assert_allclose(shown, gym.spaces.flatten(single.observation_space, last), atol=2e-3)
    assert not ray.is_initialized()
