"""The policy's network, and its weights as safetensors.

Letters: ``H`` the LLM's width, ``D`` its depth, ``B`` a batch.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save, save_model
from sb3_contrib.common.maskable.policies import MaskableMultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from polar_env.envs import Observer
from polar_env.errors import ConfigError, FingerprintError

__all__ = ["NETWORK", "ProgramFeatures", "load_weights", "new_policy", "read_tensors", "weights_of"]


class ProgramFeatures(BaseFeaturesExtractor):
    """Reads an observation: hidden states standardised by the statistics of the warm start, and the program so far.

    Args:
        observation_space: that of the environment.
        width: size of the features.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, observation_space: spaces.Dict, width: int = 128) -> None:
        super().__init__(observation_space, features_dim=width)
        hidden = int(np.prod(observation_space["hidden"].shape or ()))
        self.depth = int(np.prod(observation_space["program"].shape or ()))
        self.register_buffer("mean", torch.zeros(hidden))  # [2 H]
        self.register_buffer("scale", torch.ones(hidden))  # [2 H]
        self.read_hidden = nn.Linear(hidden, width)
        self.read_program = nn.Linear(2 * self.depth + 2, width)

    def fit(self, hidden: Tensor) -> None:
        """Take mean and scale from hidden states ``[B, 2 H]``."""
        self.mean.copy_(hidden.mean(0))
        self.scale.copy_(hidden.std(0).clamp(min=1e-3))

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Observations of ``B`` states to features ``[B, width]``."""
        hidden = ((observations["hidden"] - self.mean) / self.scale).clamp(-5, 5)  # [B, 2 H]
        # As a number, neighbouring cursors differ by 1 / D only, and what to do next hangs on them.
        cursor = (observations["cursor"][:, 0] * self.depth).round().long()  # [B]
        position = nn.functional.one_hot(cursor, self.depth + 1)  # [B, D + 1]
        program = torch.cat([observations["program"], position, observations["budget"]], dim=-1)  # [B, 2 D + 2]
        return nn.functional.silu(self.read_hidden(hidden) + self.read_program(program))


NETWORK: dict[str, Any] = {
    "features_extractor_class": ProgramFeatures,
    "net_arch": [64],
    "activation_fn": nn.SiLU,
}
"""The network of a policy, as Stable-Baselines3 takes it; nothing of the LLM is in it."""


def new_policy(observer: Observer) -> MaskableMultiInputActorCriticPolicy:
    """An untrained policy for what an observer sees."""
    return MaskableMultiInputActorCriticPolicy(
        observer.observation_space, observer.action_space, lambda _: 0.0, **NETWORK
    )


def weights_of(module: nn.Module) -> bytes:
    """A module's weights as the content of a safetensors file, the same bytes for the same weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights"
        save_model(module, str(path))  # once where actor and critic share a tensor
        return save(load_file(path))  # without the names of shared tensors, which come in random order


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ConfigError: if the file is damaged or missing.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def load_weights(module: nn.Module, path: Path) -> None:
    """Put the weights of a safetensors file into a module.

    Raises:
        ConfigError: if the file is damaged or missing.
        FingerprintError: if they are of another network.
    """
    try:
        load_model(module, path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    except RuntimeError as error:
        raise FingerprintError(f"{path} holds weights of another network: {error}") from error


def _damaged(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"{path} is damaged or missing ({error}). Put a copy there, or delete {path.parent} and train again."
    )
