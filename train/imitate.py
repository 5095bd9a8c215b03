"""Warm start: behaviour cloning of the programs that the traces' value model prefers, inside the PPO object.

Letters: ``Q`` questions, ``M`` programs, ``S`` states, ``A`` actions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO

from agents.policy.network import ProgramFeatures
from polar_env.envs import Episode, ProgramRules
from polar_env.envs.observer import Observation
from polar_env.errors import ProgramError
from polar_env.questions import Question
from polar_env.traces import VerdictMatrix
from train.config import ImitationConfig
from train.values import choose_programs, cross_fitted

__all__ = ["Demonstrations", "demonstrate", "imitate", "teacher_choice"]


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


def teacher_choice(
    rules: ProgramRules, questions: Sequence[Question], matrix: VerdictMatrix, config: ImitationConfig
) -> NDArray[np.int64]:
    """For each question the program to imitate, ``int [Q]`` into ``matrix.programs``; questions in matrix order."""
    depth = rules.depth
    read = tuple(range(min(config.value_layers, depth)))
    features = rules.world.observations([(question.ask, read) for question in questions]).astype(float)
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
    outcomes = matrix.right.astype(float)
    if rules.config.relative:
        outcomes = outcomes - matrix.right[:, :1]
    episodes, actions_taken, masks, returns, weights = [], [], [], [], []
    for row, (question, index) in enumerate(zip(questions, choice.tolist(), strict=True)):
        episode, paid = Episode(question), []
        for position, action in enumerate(spelt[index]):
            episodes.append(episode)
            actions_taken.append(action)
            masks.append(rules.mask(episode.draft))
            parts = len(next_actions[tuple(spelt[index][:position])]) > 1
            weights.append(1.0 if parts else routine_weight)
            after = Episode(question, language.apply(episode.draft, action))
            paid.append(-rules.layer_cost * (len(after.draft.layers) - len(episode.draft.layers)) / rules.depth)
            episode = after
        paid[-1] += outcomes[row, index]
        returns += discounted(paid, rules.config.gamma)
    if rules.config.shaping:  # a shaped return is the return minus the potential of where it starts
        returns = [r - potential for r, potential in zip(returns, rules.potentials(episodes), strict=True)]
    return Demonstrations(
        rules.observe_episodes(episodes),
        np.array(actions_taken),
        np.stack(masks),
        np.array(returns, np.float32),
        np.array(weights, np.float32),
    )


def discounted(rewards: Sequence[float], gamma: float) -> list[float]:
    """The return from each step of an episode on."""
    total, returns = 0.0, []
    for reward in reversed(rewards):
        total = reward + gamma * total
        returns.append(total)
    return returns[::-1]


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
