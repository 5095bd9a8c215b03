"""Warm start: behaviour cloning of the programs that the traces' value model prefers, inside the PPO object.

Letters: ``Q`` questions, ``M`` programs, ``S`` states, ``A`` actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from sb3_contrib import MaskablePPO

from agents.policy import ProgramFeatures
from polar_env.config import Config
from polar_env.envs.episode import Episode, Observation, ProgramRules
from polar_env.errors import ProgramError
from polar_env.program import Program
from polar_env.questions import Question
from train.traces import VerdictMatrix
from train.values import choose_programs, cross_fitted

__all__ = ["Demonstrations", "ImitationConfig", "best_static", "demonstrate", "imitate", "teacher_choice"]


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


@dataclass(frozen=True)
class Demonstrations:
    """States on the way of the demonstrated programs.

    Attributes:
        observations: arrays ``[S, ...]``.
        actions: ``int [S]``.
        masks: allowed actions, ``bool [S, A]``, True = allowed.
        returns: reward to come, ``float [S]``.
        weights: of each state in the loss, ``float [S]``.
    """

    observations: Observation
    actions: NDArray[np.int64]
    masks: NDArray[np.bool_]
    returns: NDArray[np.float32]
    weights: NDArray[np.float32]


def best_static(matrix: VerdictMatrix, layer_cost: float) -> Program:
    """The one program of largest mean reward over all questions of the matrix."""
    return matrix.programs[int(matrix.rewards(layer_cost).mean(0).argmax())]


def teacher_choice(
    rules: ProgramRules, questions: Sequence[Question], matrix: VerdictMatrix, config: ImitationConfig
) -> NDArray[np.int64]:
    """For each question the program to imitate, ``int [Q]`` into ``matrix.programs``; questions in matrix order."""
    depth = rules.depth
    read = tuple(range(min(config.value_layers, depth)))
    features = rules.executor.features([(question, read) for question in questions]).astype(float)
    rewards = matrix.rewards(rules.layer_cost)
    advantages = cross_fitted(features, rewards - rewards[:, :1], config.ridge_penalty)
    advantages[:, 0] = 0.0
    return choose_programs(advantages, config.margin)


def demonstrate(
    rules: ProgramRules,
    questions: Sequence[Question],
    matrix: VerdictMatrix,
    choice: NDArray[np.int64],
    routine_weight: float,
) -> Demonstrations:
    """Spell the chosen programs as actions and observe every state on their way.

    Args:
        rules: the environment's rules.
        questions: those of the matrix, in its order.
        matrix: verdicts, for the returns.
        choice: see `teacher_choice`.
        routine_weight: see `ImitationConfig`.
    """
    language = rules.language
    spelt = {0: language.encode(matrix.programs[0])}
    for index in sorted(set(choice.tolist())):
        try:
            spelt[index] = language.encode(matrix.programs[index])
        except ProgramError:  # this language cannot say it: its questions demonstrate the identity
            choice = np.where(choice == index, 0, choice)
    next_actions: dict[tuple[int, ...], set[int]] = {}
    for actions in spelt.values():
        for step, action in enumerate(actions):
            next_actions.setdefault(tuple(actions[:step]), set()).add(action)
    rewards = matrix.rewards(rules.layer_cost)
    if rules.relative:
        rewards = rewards - matrix.right[:, :1]
    episodes, actions_taken, masks, returns, weights = [], [], [], [], []
    for row, (question, index) in enumerate(zip(questions, choice.tolist(), strict=True)):
        episode = Episode(question)
        for step, action in enumerate(spelt[index]):
            episodes.append(episode)
            actions_taken.append(action)
            masks.append(rules.mask(episode))
            paid = rules.layer_cost * len(episode.draft.layers) / rules.depth
            returns.append(rewards[row, index] + paid)
            parts = len(next_actions[tuple(spelt[index][:step])]) > 1
            weights.append(1.0 if parts else routine_weight)
            episode = Episode(question, language.apply(episode.draft, action))
    return Demonstrations(
        rules.observe(episodes),
        np.array(actions_taken),
        np.stack(masks),
        np.array(returns, np.float32),
        np.array(weights, np.float32),
    )


def imitate(
    model: MaskablePPO,
    demonstrations: Demonstrations,
    config: ImitationConfig,
    seed: int = 0,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Clone the demonstrations into a PPO model's policy, and their returns into its critic.

    Args:
        model: the PPO object, from which PPO then goes on.
        demonstrations: what to clone.
        config: the settings.
        seed: of the order of states.
        on_epoch: called with the epoch and its metrics.
    """
    policy = model.policy
    extractor = policy.features_extractor
    observations = {name: torch.as_tensor(values) for name, values in demonstrations.observations.items()}
    assert isinstance(extractor, ProgramFeatures)
    extractor.fit(observations["hidden"])
    actions, masks = torch.as_tensor(demonstrations.actions), torch.as_tensor(demonstrations.masks)
    returns, weights = torch.as_tensor(demonstrations.returns), torch.as_tensor(demonstrations.weights)
    optimiser = torch.optim.Adam(policy.parameters(), lr=config.learning_rate, weight_decay=1e-5)
    generator = torch.Generator().manual_seed(seed)
    policy.set_training_mode(True)
    for epoch in range(config.epochs):
        totals = np.zeros(3)
        order = torch.randperm(len(actions), generator=generator)
        for batch in order.split(config.batch_size):
            seen = {name: values[batch] for name, values in observations.items()}
            dropped = torch.rand(seen["hidden"].shape, generator=generator) < config.dropout
            seen["hidden"] = torch.where(dropped, extractor.mean, seen["hidden"])
            values, log_probs, _ = policy.evaluate_actions(seen, actions[batch], action_masks=masks[batch])
            weight = weights[batch]
            cloning = -(weight * log_probs).sum() / weight.sum()
            critic = torch.nn.functional.mse_loss(values.flatten(), returns[batch])
            optimiser.zero_grad()
            (cloning + config.value_weight * critic).backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimiser.step()
            totals += len(batch) * np.array([cloning.item(), critic.item(), log_probs.exp().mean().item()])
        if on_epoch is not None:
            names = ("imitate/cross_entropy", "imitate/value_error", "imitate/action_probability")
            on_epoch(epoch, dict(zip(names, totals / len(actions), strict=True)))
    policy.set_training_mode(False)
