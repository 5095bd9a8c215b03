"""Learners by trial that start from nothing, as agents: LinUCB, Thompson sampling, GRPO of `train.reference`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from agents.menu import MenuAgent
from agents.perceptron import KIND, Perceptron
from polar_env.worlds import RecordedWorld
from train.config import TrialsConfig
from train.judged import train_judged
from train.reference import Task, bandit, group_relative
from train.value import menu_costs

__all__ = ["TRIALS", "train_trials"]

TRIALS: Mapping[str, Callable[[Task, int], Perceptron]] = {
    "grpo": group_relative,
    "linucb": lambda task, seed: bandit(task, seed, thompson=False),
    "thompson": lambda task, seed: bandit(task, seed, thompson=True),
}
"""By name: each gives scores of the menu from `Task.features`."""


def train_trials(world: RecordedWorld, folder: Path, name: str, config: TrialsConfig, seed: int = 0) -> Path:
    """Train on the train and validation questions of a world; see `train_judged`.

    Args:
        world: the world.
        folder: gets ``agents/NAME`` and the best static programs.
        name: one of `TRIALS`.
        config: the settings.
        seed: of weights and draws.
    """
    menu_costs(world, config.value.look)  # refuses a depth without states

    def fit(split: str) -> MenuAgent:
        task = Task(world, split, config.value, config.steps)
        (centre, scale), programs = task.standards, [world.programs[column] for column in task.menu()]
        scorer = Perceptron.standardised(TRIALS[name](task, seed).maps, centre, scale)
        return MenuAgent(world.asks, programs, scorer, config.value.look, name)

    return train_judged(world, folder, KIND, name, config, seed, fit)
