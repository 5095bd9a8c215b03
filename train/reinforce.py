"""MaskablePPO from the warm start, with checkpoints, and the best policy chosen on validation questions.

Letters: ``N`` lanes, ``D`` the model's depth.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from agents.policy import NETWORK, PolicyAgent, write_model
from polar_env.config import Config
from polar_env.envs.episode import ProgramRules
from polar_env.questions import Question
from polar_env.runtime import torch_threads
from polar_env.tables import write_whole
from train.tracking import Tracker

__all__ = ["PPOConfig", "Score", "make_model", "reinforce", "score"]


class PPOConfig(Config):
    """Settings of PPO."""

    lanes: int = Field(default=64, ge=1)
    """Episodes that run side by side."""
    steps: int = Field(default=64, ge=1)
    """Environment steps of each lane between two updates."""
    total_steps: int = Field(default=200_000, ge=0)
    """Environment steps in all."""
    batch_size: int = Field(default=1024, ge=2)
    """States in a gradient step; divides lanes * steps."""
    epochs: int = Field(default=4, ge=1)
    """Passes over each rollout."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Step size of Adam."""
    clip: float = Field(default=0.1, gt=0)
    """PPO's clipping range."""
    entropy: float = Field(default=0.002, ge=0)
    """Weight of the entropy bonus, which keeps the policy from falling back to one program."""
    gae_lambda: float = Field(default=0.98, ge=0, le=1)
    """Lambda of the generalised advantage estimate."""
    target_kl: float | None = Field(default=0.02)
    """An update stops early when the policy has moved this far; None never stops."""
    validate_every: int = Field(default=10, ge=1)
    """Rollouts between two measurements on the validation questions."""

    @model_validator(mode="after")
    def _batches_divide(self) -> PPOConfig:
        if (self.lanes * self.steps) % self.batch_size:
            raise ValueError(f"batch_size {self.batch_size} does not divide lanes * steps = {self.lanes * self.steps}")
        return self


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


def make_model(env: VecEnv, config: PPOConfig, seed: int) -> MaskablePPO:
    """A MaskablePPO with the network that reads programs; nothing of the LLM is in it."""
    return MaskablePPO(
        "MultiInputPolicy",
        env,
        learning_rate=config.learning_rate,
        n_steps=config.steps,
        batch_size=config.batch_size,
        n_epochs=config.epochs,
        gamma=1.0,
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
    programs = [proposals[0] for proposals in PolicyAgent(model, rules).propose(questions)]
    verdicts = rules.executor.verdicts(list(zip(questions, programs, strict=True)))
    right = float(np.mean([verdict.right for verdict in verdicts]))
    cost = float(np.mean([program.cost(rules.depth) for program in programs]))
    return Score(right, cost, right - rules.layer_cost * cost)


class _Progress(BaseCallback):
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
                "rollout/hit_rate": self.rules.executor.stats.hit_rate,
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
            write_model(self.model, self.folder / "best.zip")
        self.checkpoint(self.model)

    def checkpoint(self, model: MaskablePPO) -> None:
        """Save the policy and how far training has come; the state file last."""
        write_model(model, self.folder / "last.zip")
        state = {"steps": model.num_timesteps, "best": self.best, "chosen_step": self.chosen_step}
        write_whole(self.folder / "state.json", json.dumps(state).encode())


def reinforce(
    model: MaskablePPO,
    rules: ProgramRules,
    validation: Sequence[Question],
    config: PPOConfig,
    folder: Path,
    tracker: Tracker,
    *,
    warm_start: Score,
    on_progress: Callable[[int, dict[str, float]], None],
) -> tuple[MaskablePPO, int]:
    """Train until ``config.total_steps``; a stop in between keeps a checkpoint.

    Args:
        model: the warm-started (or resumed) model; its own step count says how far it is.
        rules: for measuring on validation questions.
        validation: questions that choose among the policies met on the way.
        config: the settings.
        folder: gets ``last.zip``, ``best.zip`` and ``state.json``.
        tracker: takes SB3's own metrics.
        warm_start: what the warm start is worth on the validation questions; a policy must exceed it to be kept.
        on_progress: called after each rollout with the step and metrics.

    Returns:
        The best policy by validation reward, and the step at which it was met: 0 for the warm start itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    best, chosen_step = warm_start.reward, 0
    if (folder / "state.json").exists():
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        best, chosen_step = state["best"], state["chosen_step"]
    else:
        write_model(model, folder / "best.zip")
    callback = _Progress(rules, validation, folder, config.validate_every, on_progress, best, chosen_step)
    model.set_logger(tracker.sb3_logger())
    left = config.total_steps - model.num_timesteps
    try:
        if left > 0:
            with torch_threads(1):  # the executor takes all cores for the LLM
                model.learn(left, callback=callback, reset_num_timesteps=False)
            callback.validate({})
    except KeyboardInterrupt:
        if model.num_timesteps:  # else there is nothing yet that the warm start does not have
            callback.checkpoint(model)
        raise
    return MaskablePPO.load(folder / "best.zip", device="cpu"), callback.chosen_step
