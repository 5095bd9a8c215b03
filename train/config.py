"""The settings of a training."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from agents.search.config import PRESETS, MctsConfig
from polar_env.config import Config
from polar_env.envs.config import EnvConfig

__all__ = [
    "ImitationConfig",
    "MatrixConfig",
    "PPOConfig",
    "PredictorConfig",
    "SearchConfig",
    "TrainingConfig",
    "TrialsConfig",
    "ValueConfig",
]


class _Rollouts(Config):
    """What learners by rollouts share."""

    lanes: int = Field(ge=1)
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=2)

    @model_validator(mode="after")
    def _batches_divide(self) -> Self:
        if (self.lanes * self.steps) % self.batch_size:
            raise ValueError(f"batch_size {self.batch_size} does not divide lanes * steps = {self.lanes * self.steps}")
        return self


class ImitationConfig(Config):
    """Settings of the warm start."""

    value_layers: int = Field(default=6, ge=0)
    """The value model reads the hidden state after this many layers of the normal pass."""
    ridge_penalty: float = Field(default=3.0, gt=0)
    """The value model's ridge constant."""
    margin: float = Field(default=0.0, ge=0)
    """The identity is imitated unless a program's predicted advantage exceeds this."""
    epochs: int = Field(default=30, ge=0)
    """Passes over all demonstrated states."""
    batch_size: int = Field(default=512, ge=2)
    """States in a gradient step."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size of Adam."""
    value_weight: float = Field(default=0.5, ge=0)
    """Weight of the critic's squared error beside the cross-entropy."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability with which an entry of the hidden states is replaced by its mean, against overfitting. PPO goes on
    without: noise in its forward pass would count as a change of the policy."""
    routine_weight: float = Field(default=0.1, gt=0)
    """Weight of a state in which all demonstrated programs do the same, against 1 where they part."""


class ValueConfig(Config):
    """Settings of the value model, a kernel ridge regression; cross-validated on train and validation questions."""

    look: int = Field(default=4, ge=0)
    """Layers of the identity that run before the choice; their hidden state is read."""
    menu: int = Field(default=256, ge=1)
    """Programs to choose from, at most all, picked for what they add to one another."""
    menu_price: float = Field(default=0.02, ge=0)
    """What D layers must add for a program to get on the menu."""
    verdict_share: float = Field(default=0.5, ge=0, le=1)
    """The model learns this share of verdict and else the probability of the gold answer."""
    ridge: float = Field(default=0.3, gt=0)
    """Ridge constant, added to the kernel's diagonal."""
    scale: float = Field(default=0.5, gt=0)
    """The kernel's width as a multiple of the median squared distance between two asks."""
    price: float = Field(default=0.6, ge=0)
    """Predicted value that D layers must add: the dial between accuracy and cost."""
    most_doubt: float = Field(default=0.25, gt=0)
    """Where the model knows less about an ask than this (0: all, 1: nothing), the identity answers."""
    folds: int = Field(default=8, ge=2)
    """Parts of the cross-validation that calibrates confidences and estimates what the agent is worth."""


class PredictorConfig(_Rollouts):
    """Settings of the program predictor: PPO on a recorded world that starts from the value model."""

    value: ValueConfig = ValueConfig()
    """The value model that it starts from, and the price at which it decides where none is given."""
    most_price: float = Field(default=4.0, gt=0)
    """The price of D layers is drawn anew for each question, evenly from 0 to this."""
    sharpness: float = Field(default=20.0, gt=0)
    """Logits of the start for a program that is worth one right answer more."""
    kl: float = Field(default=0.2, ge=0)
    """Reward lost per nat of divergence from the start."""
    hidden: int = Field(default=128, ge=1)
    """Hidden numbers of the actor, and of the critic."""
    total_steps: int = Field(default=100_000, ge=0)
    """Questions asked in all; each update takes lanes * steps of them."""
    lanes: int = Field(default=1024, ge=1)
    """Questions asked at once."""
    steps: int = Field(default=4, ge=1)
    """Questions of each lane between two updates."""
    batch_size: int = Field(default=1024, ge=2)
    """Questions in a gradient step; divides lanes * steps."""
    epochs: int = Field(default=4, ge=1)
    """Passes over the questions between two updates."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Step size of Adam."""
    clip: float = Field(default=0.2, gt=0)
    """PPO's clipping range."""


class TrialsConfig(Config):
    """Settings of the learners by trial that start from nothing: linear bandits, and GRPO."""

    value: ValueConfig = ValueConfig()
    """Look, menu, targets and price."""
    steps: int = Field(default=20_000, ge=1)
    """Verdicts that a bandit asks for; GRPO has a fixed number of updates."""


class PPOConfig(_Rollouts):
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


class MatrixConfig(Config):
    """Settings of the race of shared programs."""

    candidates: int = Field(default=0, ge=0)
    """Programs that start: a quarter at most the best of the trees, the rest single edits in random order; 0 takes all
    single edits."""
    survivors: int = Field(default=16, ge=1)
    """Programs that are evaluated on all train questions."""
    first_questions: int = Field(default=50, ge=1)
    """Questions of the first heat; each later heat has twice as many and half the programs."""
    combine: int = Field(default=0, ge=0)
    """Survivors, the best first, whose pairs race against them in the end; 0 combines none."""
    grow: int = Field(default=0, ge=0)
    """Rounds of greedy growth after that: the best program with each other survivor's changes races against them."""
    layer_cost: float = Field(default=0.1, ge=0)
    """Reward lost per executed layer / D; the race is for mean verdict minus this."""


class SearchConfig(Config):
    """What a search for programs does: trees, a race of shared programs, and what luck finds beside."""

    mcts: MctsConfig = PRESETS["fast"]
    """The tree search."""
    race: MatrixConfig = MatrixConfig(candidates=64)
    """The race of shared programs; with --matrix all single edits start, then pairs of the eight best, and the best
    grows twice."""
    matrix: bool = False
    """Race shared programs only, without trees."""
    trees: bool = False
    """Search trees only, without the race."""
    chance: bool = False
    """Also evaluate as many random programs as the trees did, and single edits, on their questions: what luck finds."""
    tree_questions: int = Field(default=64, ge=1)
    """Questions that get a tree, tasks taking turns; the race uses all."""
    in_flight: int = Field(default=32, ge=1)
    """Questions searched in lock step."""
    held_out_limit: int = Field(default=200, ge=0)
    """Validation questions on which the survivors of the race are measured, too; 0 measures none."""
    seed: int = 0
    """Seed of the trees, and of the order of questions and candidates."""


class TrainingConfig(Config):
    """Everything that decides what comes out of a training, beside model, questions and traces."""

    env: EnvConfig = EnvConfig()
    """The environment."""
    imitation: ImitationConfig = ImitationConfig()
    """The warm start."""
    ppo: PPOConfig = PPOConfig()
    """PPO."""
    seed: int = 0
    """Seed of networks, rollouts and the order of states."""
