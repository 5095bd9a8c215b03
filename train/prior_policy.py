"""A Stable-Baselines3 policy that starts as the value agent: a prior from predicted values, and networks that are zero.

Logits are ``sharpness * (value - price * cost)`` plus a perceptron; the critic is the best worth that the value model
predicts plus another perceptron. An observation is the `correction_inputs` of its question.

Letters: ``B`` rows, ``I`` inputs, ``M`` programs of the menu, ``H`` hidden numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from torch import nn

from agents.perceptron import Perceptron
from train.crossfit import CrossFitted
from train.standards import standards_of

__all__ = ["Networks", "PriorPolicy"]


class Networks(nn.Module):
    """Gives logits and the critic's value where SB3 expects hidden layers.

    Args:
        fitted: the questions; inputs are centred and scaled by them, costs are theirs.
        most_price: the highest price.
        sharpness: of the prior.
        hidden: numbers ``H``.
    """

    costs: torch.Tensor
    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(self, fitted: CrossFitted, most_price: float, sharpness: float, hidden: int) -> None:
        super().__init__()
        self.sharpness, self.menu = sharpness, len(fitted.costs)
        centre, scale = _standards(fitted, most_price)
        for name, array in {"costs": fitted.costs, "centre": centre, "scale": scale}.items():
            self.register_buffer(name, torch.as_tensor(array, dtype=torch.float32))
        self.actor, self.critic = (
            nn.Sequential(nn.Linear(len(centre), hidden), nn.Tanh(), nn.Linear(hidden, outputs))
            for outputs in (self.menu, 1)
        )
        for network in (self.actor, self.critic):
            for parameter in network[-1].parameters():
                nn.init.zeros_(parameter)
        self.latent_dim_pi, self.latent_dim_vf = self.menu, 1

    def prior(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits of the start, ``[B, M]``."""
        return self.sharpness * (inputs[:, -self.menu :] - inputs[:, :1] * self.costs)

    def forward_actor(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits, ``[B, M]``."""
        logits: torch.Tensor = self.prior(inputs) + self.actor((inputs - self.centre) / self.scale)
        return logits

    def forward_critic(self, inputs: torch.Tensor) -> torch.Tensor:
        """Expected reward, ``[B, 1]``."""
        best = self.prior(inputs).max(1, keepdim=True).values / self.sharpness
        reward: torch.Tensor = best + self.critic((inputs - self.centre) / self.scale)
        return reward

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both."""
        return self.forward_actor(inputs), self.forward_critic(inputs)

    def correction(self) -> Perceptron:
        """What the actor adds to predicted values, of raw inputs and without torch."""
        *maps, (weights, offsets) = Perceptron.of_torch(self.actor).maps
        last = weights / self.sharpness, offsets / self.sharpness
        return Perceptron.standardised([*maps, last], self.centre.numpy(), self.scale.numpy())


def _standards(fitted: CrossFitted, most_price: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centre and scale of the inputs, ``[I]`` each: the price from -1 to 1, states and values by `standards_of`."""
    half = np.full(1, most_price / 2, np.float32)
    kinds = [(half, half), standards_of(fitted.observations), standards_of(fitted.values)]
    scales = [scale.repeat(len(centre)) for centre, scale in kinds]
    return np.concatenate([centre for centre, _ in kinds]), np.concatenate(scales)


class PriorPolicy(MaskableActorCriticPolicy):  # type: ignore[misc]
    """See the module; for one-step episodes.

    Args:
        spaces: observation space, action space and schedule of the learning rate.
        networks: arguments of `Networks`.
        kl: weight of the divergence from the prior (Jaques et al. 2017), which stands in for SB3's entropy bonus.
        named: further settings of SB3.
    """

    def __init__(self, *spaces: Any, networks: dict[str, Any], kl: float, **named: Any) -> None:
        self._arguments, self.kl = networks, kl
        super().__init__(*spaces, ortho_init=False, **named)

    @property
    def networks(self) -> Networks:
        """All that is learned."""
        assert isinstance(self.mlp_extractor, Networks)
        return self.mlp_extractor

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = Networks(**self._arguments)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = self.value_net = nn.Identity()

    def evaluate_actions(
        self, obs: torch.Tensor, actions: torch.Tensor, action_masks: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As SB3, with the negative divergence from the prior in the place of the entropy."""
        values, log_prob, _ = super().evaluate_actions(obs, actions, action_masks)
        forbidden = ~torch.as_tensor(action_masks, dtype=torch.bool).reshape(len(obs), -1)
        now, prior = (
            torch.log_softmax(logits.masked_fill(forbidden, -1e8), 1)  # [B, M]
            for logits in (self.networks.forward_actor(obs), self.networks.prior(obs))
        )
        return values, log_prob, -self.kl * (now.exp() * (now - prior)).sum(1)
