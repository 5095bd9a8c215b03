"""Learners by name: each makes an agent from a recorded world; `polar train --world WORLD --learner NAME`.

A learner fits on train and validation questions, never on test questions, and its agent's card says what it is worth on
questions that it was not fitted on: ``results`` hold ``out_of_fold`` or ``validation``, each with ``pass_at_1``,
``cost``, ``static_pass_at_1``, ``identity_pass_at_1`` and ``questions``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from polar_env.errors import UnknownNameError
from polar_env.worlds import RecordedWorld

__all__ = ["LEARNERS", "MEASURED_ON", "SECONDS", "SETTINGS", "Learner", "find_learner"]

Learner = Callable[[RecordedWorld, Path, Any, int], Path]
"""From a world, a run's folder, the learner's own settings and a seed to the agent's folder, ``RUN/agents/NAME``."""


def _value(world: RecordedWorld, folder: Path, config: Any, seed: int) -> Path:
    from train.value import train_value

    return train_value(world, folder, config, seed).folder / "value"


def _peer(name: str) -> Learner:
    def learn(world: RecordedWorld, folder: Path, config: Any, seed: int) -> Path:
        from train.peers.training import train_peer

        return train_peer(world, folder, name, config, seed)

    return learn


def _ppo(world: RecordedWorld, folder: Path, config: Any, seed: int) -> Path:
    from train.predictor import train_predictor

    return train_predictor(world, folder, config, seed)


def _by_trials(name: str) -> Learner:
    def learn(world: RecordedWorld, folder: Path, config: Any, seed: int) -> Path:
        from train.trials import train_trials

        return train_trials(world, folder, name, config, seed)

    return learn


LEARNERS: Mapping[str, Learner] = {
    "value": _value,
    "ppo": _ppo,
    **{name: _by_trials(name) for name in ("grpo", "linucb", "thompson")},
    **{name: _peer(name) for name in ("polar", "drllm", "blockdrop", "ablr")},
}
"""By name."""


def find_learner(name: str) -> Learner:
    """A learner by its name; raises UnknownNameError."""
    if name not in LEARNERS:
        raise UnknownNameError("learner", name, LEARNERS)
    return LEARNERS[name]


SECONDS: Mapping[str, float] = {
    "value": 10, "ppo": 30, "grpo": 12, "linucb": 14, "thompson": 14,
    "polar": 150, "drllm": 16, "blockdrop": 46, "ablr": 7,
}  # fmt: skip
"""What each took on two cores on the ``skills`` world, whose train and validation questions are `MEASURED_ON`."""
MEASURED_ON = 2229
SETTINGS: Mapping[str, str] = {"ppo": "predictor", **dict.fromkeys(("grpo", "linucb", "thompson"), "trials")}
"""Where the command's configuration holds a learner's settings, if not under the learner's name."""
