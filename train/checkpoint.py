"""Where a training stands, in files from which nothing is unpickled: tensors as safetensors, numbers as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from sb3_contrib import MaskablePPO
from torch import Tensor

from polar_env.tables import write_whole

__all__ = ["has_checkpoint", "load_checkpoint", "save_checkpoint"]

_TENSORS, _STATE = "last.safetensors", "state.json"
_POLICY, _OPTIMISER = "policy.", "optimiser."


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint."""
    return (folder / _STATE).is_file()


def save_checkpoint(model: MaskablePPO, folder: Path, **numbers: float) -> None:
    """Save policy, optimiser, step count and some numbers; the state file last, so that a checkpoint is whole."""
    tensors = {_POLICY + name: tensor.contiguous() for name, tensor in model.policy.state_dict().items()}
    for parameter, slots in model.policy.optimizer.state_dict()["state"].items():
        tensors |= {f"{_OPTIMISER}{parameter}.{name}": torch.as_tensor(value) for name, value in slots.items()}
    write_whole(folder / _TENSORS, save(tensors))
    state = {"steps": model.num_timesteps, "updates": model._n_updates, **numbers}
    write_whole(folder / _STATE, json.dumps(state).encode())


def load_checkpoint(model: MaskablePPO, folder: Path) -> dict[str, float]:
    """Put a checkpoint into a new model of the same configuration; returns the state with its numbers."""
    tensors = load_file(folder / _TENSORS)
    policy = {name.removeprefix(_POLICY): t for name, t in tensors.items() if name.startswith(_POLICY)}
    model.policy.load_state_dict(policy)
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(_OPTIMISER):
            parameter, _, slot = name.removeprefix(_OPTIMISER).partition(".")
            slots.setdefault(int(parameter), {})[slot] = tensor
    groups = model.policy.optimizer.state_dict()["param_groups"]
    model.policy.optimizer.load_state_dict({"state": slots, "param_groups": groups})
    state: dict[str, float] = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    model.num_timesteps, model._n_updates = int(state["steps"]), int(state["updates"])
    return state
