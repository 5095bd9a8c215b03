"""MaskablePPO from the warm start, with checkpoints, and the best policy chosen on validation questions.

Letters: ``N`` lanes, ``D`` the model's depth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from agents.policy.agent import PolicyAgent
from agents.policy.network import NETWORK, load_weights, weights_of
from polar_env.envs import ProgramRules
from polar_env.questions import Question
from polar_env.runtime import torch_threads
from polar_env.tables import write_whole
from train.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from train.config import PPOConfig
from train.tracking import sb3_logger

__all__ = ["Score", "make_model", "reinforce", "score"]


BEST = "best.safetensors"
"""Weights of the policy that was best on the validation questions."""


@dataclass(frozen=True)
class Score:
    """What a policy is worth on some questions.

    Attributes:
        pass_at_1: share of questions that its program answers rightly.
        cost: mean executed layers / D.
        reward: mean verdict minus layer cost.
    """

    pass_at_1: float
    cost: float
    reward: float


def make_model(env: VecEnv, config: PPOConfig, gamma: float, seed: int) -> MaskablePPO:
    """A MaskablePPO with the network that reads programs; nothing of the LLM is in it."""
    return MaskablePPO(
        "MultiInputPolicy",
        env,
        learning_rate=config.learning_rate,
        n_steps=config.steps,
        batch_size=config.batch_size,
        n_epochs=config.epochs,
        gamma=gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip,
        ent_coef=config.entropy,
        target_kl=config.target_kl,
        policy_kwargs=NETWORK,
        seed=seed,
        device="cpu",
    )


def score(model: MaskablePPO, rules: ProgramRules, questions: Sequence[Question]) -> Score:
    """Measure the greedy policy on some questions."""
    decisions = PolicyAgent(model.policy, rules.observer).decide([question.ask for question in questions])
    programs = [decision.program for decision in decisions]
    verdicts = rules.world.verdicts(list(zip(questions, programs, strict=True)))
    right = float(np.mean([verdict.right for verdict in verdicts]))
    cost = float(np.mean([program.cost(rules.depth) for program in programs]))
    return Score(right, cost, right - rules.layer_cost * cost)


class _Rollouts(BaseCallback):
    """Checkpoints, validates, and keeps the best policy."""

    def __init__(
        self,
        rules: ProgramRules,
        validation: Sequence[Question],
        folder: Path,
        every: int,
        report: Callable[[int, dict[str, float]], None],
        best: float,
        chosen_step: int,
    ) -> None:
        super().__init__()
        self.rules, self.validation_questions, self.folder = rules, validation, folder
        self.every, self.report, self.best, self.chosen_step = every, report, best, chosen_step
        self.rollouts = 0
        self.ends: list[dict[str, float]] = []

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.ends.append({"r": info["episode"]["r"], "right": info["right"], "cost": info["cost"]})
        return True

    def _on_rollout_end(self) -> None:
        self.rollouts += 1
        metrics: dict[str, float] = {}
        if self.ends:
            metrics = {
                "rollout/return": float(np.mean([end["r"] for end in self.ends])),
                "rollout/right": float(np.mean([end["right"] for end in self.ends])),
                "rollout/cost": float(np.mean([end["cost"] for end in self.ends])),
                "rollout/episodes": float(len(self.ends)),
                "rollout/hit_rate": self.rules.world.stats.hit_rate,
            }
            self.ends = []
        if self.rollouts % self.every == 0:
            self.validate(metrics)
        self.report(self.num_timesteps, metrics)

    def validate(self, metrics: dict[str, float]) -> None:
        """Measure on the validation questions, checkpoint, and keep the policy if it is the best so far."""
        assert isinstance(self.model, MaskablePPO)
        now = score(self.model, self.rules, self.validation_questions)
        metrics |= {"validation/right": now.pass_at_1, "validation/cost": now.cost, "validation/reward": now.reward}
        if now.reward > self.best:
            self.best = now.reward
            self.chosen_step = self.model.num_timesteps
            write_whole(self.folder / BEST, weights_of(self.model.policy))
        self.checkpoint(self.model)

    def checkpoint(self, model: MaskablePPO) -> None:
        """Save how far training has come."""
        save_checkpoint(model, self.folder, best=self.best, chosen_step=self.chosen_step)


def reinforce(
    model: MaskablePPO,
    rules: ProgramRules,
    validation: Sequence[Question],
    config: PPOConfig,
    folder: Path,
    *,
    warm_start: Score,
    on_rollout: Callable[[int, dict[str, float]], None],
) -> int:
    """Train until ``config.total_steps``; a stop in between keeps a checkpoint, from which the next call goes on.

    Args:
        model: the warm-started model; in the end it is the best policy by validation reward.
        rules: for measuring on validation questions.
        validation: questions that choose among the policies met on the way.
        config: the settings.
        folder: gets the checkpoint, and the weights of the best policy so far.
        warm_start: what the warm start is worth on the validation questions; a policy must exceed it to be kept.
        on_rollout: called after each rollout with the step and metrics.

    Returns:
        The step at which the best policy was met: 0 for the warm start itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    best, chosen_step = warm_start.reward, 0
    if has_checkpoint(folder):
        state = load_checkpoint(model, folder)
        assert model.env is not None
        model.env.seed((model.seed or 0) + model.num_timesteps)  # other questions than those before the stop
        best, chosen_step = state["best"], int(state["chosen_step"])
    else:
        write_whole(folder / BEST, weights_of(model.policy))
    callback = _Rollouts(rules, validation, folder, config.validate_every, on_rollout, best, chosen_step)
    model.set_logger(sb3_logger())
    left = config.total_steps - model.num_timesteps
    try:
        if left > 0:
            with torch_threads(1):  # the world takes all cores for the LLM
                model.learn(left, callback=callback, reset_num_timesteps=False)
            callback.validate({})
    except KeyboardInterrupt:
        if model.num_timesteps:  # else there is nothing yet that the warm start does not have
            callback.checkpoint(model)
        raise
    load_weights(model.policy, folder / BEST)
    model.policy.set_training_mode(False)
    return callback.chosen_step
