"""Where a training stands, in files from which nothing is unpickled: tensors as safetensors, numbers as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save
from sb3_contrib import MaskablePPO
from torch import Tensor

from agents.policy.network import load_weights, read_tensors, weights_of
from polar_env.config import Config
from polar_env.tables import read_json, write_whole

__all__ = ["has_checkpoint", "load_checkpoint", "save_checkpoint", "steps_done"]

_POLICY, _OPTIMISER, _STATE = "last.safetensors", "optimiser.safetensors", "state.json"


class _State(Config, extra="allow"):
    """What the state file holds, beside the numbers that were saved with it."""

    steps: int
    updates: int


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint."""
    return (folder / _STATE).is_file()


def steps_done(folder: Path) -> int:
    """The environment steps that a checkpoint stands behind."""
    return _state(folder).steps


def save_checkpoint(model: MaskablePPO, folder: Path, **numbers: float) -> None:
    """Save policy, optimiser, step count and some numbers; the state file last, so that a checkpoint is whole."""
    slots = model.policy.optimizer.state_dict()["state"]
    tensors = {f"{i}.{name}": torch.as_tensor(value) for i, values in slots.items() for name, value in values.items()}
    write_whole(folder / _POLICY, weights_of(model.policy))
    write_whole(folder / _OPTIMISER, save(tensors))
    state = {"steps": model.num_timesteps, "updates": model._n_updates, **numbers}
    write_whole(folder / _STATE, json.dumps(state).encode())


def load_checkpoint(model: MaskablePPO, folder: Path) -> dict[str, float]:
    """Put a checkpoint into a new model of the same configuration; returns the numbers that were saved with it.

    Raises:
        ConfigError: if one of its files is damaged.
        FingerprintError: if the weights are of another network.
    """
    state = _state(folder)
    load_weights(model.policy, folder / _POLICY)
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in read_tensors(folder / _OPTIMISER).items():
        parameter, _, slot = name.partition(".")
        slots.setdefault(int(parameter), {})[slot] = tensor
    groups = model.policy.optimizer.state_dict()["param_groups"]
    model.policy.optimizer.load_state_dict({"state": slots, "param_groups": groups})
    model.num_timesteps, model._n_updates = state.steps, state.updates
    return state.model_extra or {}


def _state(folder: Path) -> _State:
    return _State.of(read_json(folder / _STATE), str(folder / _STATE))
