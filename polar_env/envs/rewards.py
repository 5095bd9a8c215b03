"""What a finished program earns, by name; the price of its layers goes off beside, with every action.

A reward is a frozen configuration that is called with an `Outcome`, so that its options are checked like any other:

    @REWARDS.register("brevity")
    class Brevity(Config):
        bonus: float = 0.2

        def __call__(self, outcome: Outcome) -> float: ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import yaml

from polar_env.config import Config
from polar_env.errors import ConfigError
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.registry import Registry
from polar_env.runner.verdict import Verdict

__all__ = ["REWARDS", "Correctness", "Outcome", "Reward", "make_reward"]


@dataclass(frozen=True)
class Outcome:
    """What a program made of a question.

    Attributes:
        question: the question.
        program: the program.
        verdict: right or wrong, with the log-probability of the gold answer.
        depth: the model's depth ``D``.
    """

    question: Question
    program: Program
    verdict: Verdict
    depth: int


class Reward(Protocol):
    """What an outcome earns."""

    def __call__(self, outcome: Outcome, /) -> float:
        """The reward at the end of the episode, without the price of layers."""


REWARDS: Registry[type[Config]] = Registry("reward", "polar_env.rewards")
"""Rewards by name."""


@REWARDS.register("correctness")
class Correctness(Config):
    """1 for a right answer, 0 for a wrong one."""

    def __call__(self, outcome: Outcome) -> float:
        """What the verdict says."""
        return float(outcome.verdict.right)


def make_reward(text: str) -> Reward:
    """A reward from its name, with options in braces where it has some: ``brevity {bonus: 0.3}``.

    Raises:
        UnknownNameError: for a reward or an option that does not exist.
        ConfigError: for an option that is out of range, or options that are no YAML mapping.
    """
    name, brace, options = text.partition("{")
    name = name.strip()
    kind = REWARDS.get(name)
    try:
        given = yaml.safe_load(brace + options) if brace else {}
    except yaml.YAMLError as error:
        raise ConfigError(f"reward '{text}': its options are no mapping; write {name} {{option: value}}.") from error
    reward = kind.of(given, f"reward '{name}'")
    if not callable(reward):
        raise ConfigError(f"reward '{name}' cannot be called; give {kind.__name__} a method __call__(self, outcome).")
    return reward
