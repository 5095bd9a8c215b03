"""What a peer learns from, and the loop in which it does.

Letters: ``Q`` questions, ``P`` programs of the world, ``M`` programs of the menu, ``O`` numbers of an observation,
``B`` questions of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.menu import Scorer
from polar_env.errors import NonFiniteError
from polar_env.program import Program
from polar_env.tracking import tracker
from train.peers.config import PeerConfig
from train.standards import standards_of

__all__ = ["Lesson", "Taught", "minimise"]


@dataclass(frozen=True)
class Lesson:
    """Some questions of a recorded world.

    Attributes:
        programs: those of the world.
        depth: the model's depth ``D``.
        observations: states after the layers that run before the choice, ``float32 [Q, O]``.
        right: whether each program is right, ``bool [Q, P]``.
        costs: executed layers / D of each program, those that run in vain before the choice included, ``[P]``.
    """

    programs: Sequence[Program]
    depth: int
    observations: NDArray[np.float32]
    right: NDArray[np.bool_]
    costs: NDArray[np.float64]

    @cached_property
    def standards(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Centre ``[O]`` and scale ``[1]`` of the observations; see `standards_of`."""
        return standards_of(self.observations)

    @property
    def read(self) -> Tensor:
        """The observations, centred and scaled, ``[Q, O]``."""
        centre, scale = self.standards
        return torch.from_numpy((self.observations - centre) / scale)


@dataclass(frozen=True)
class Taught:
    """What a peer learned: which programs of the world it can express, and how it scores them."""

    columns: list[int]
    scorer: Scorer


def minimise(
    network: nn.Module,
    loss_of: Callable[[Tensor, int], Tensor],
    questions: int,
    config: PeerConfig,
    schedule: Callable[[float, int], float] = lambda share, step: 1.0,
) -> None:
    """Gradient descent on batches of questions, with AdamW.

    Args:
        network: is left in evaluation mode.
        loss_of: the loss of a batch, from the questions' places ``[B]`` and the number of epochs done.
        questions: how many there are.
        config: epochs, batch size, step size, weight decay.
        schedule: factor of the step size, from the share of all steps done and their number.
    """
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )  # fmt: skip
    before = tracker().last_step  # a peer is fitted twice: see train_judged
    step, total = 0, config.epochs * -(-questions // config.batch_size)
    network.train()
    for epoch in range(config.epochs):
        for batch in torch.randperm(questions).split(config.batch_size):
            optimiser.param_groups[0]["lr"] = config.learning_rate * schedule(step / total, step)
            optimiser.zero_grad()
            try:
                loss = loss_of(batch, epoch)
            except ValueError:  # torch's distributions refuse logits that are not finite
                loss = torch.tensor(torch.nan)
            if not torch.isfinite(loss):
                raise NonFiniteError(
                    f"the loss is {loss.item()} at step {step} of {total}; nothing was saved. Take smaller steps "
                    f"(learning_rate is {config.learning_rate})."
                )
            loss.backward()
            optimiser.step()
            step += 1
        tracker().log({"train/loss": loss.item()}, before + epoch + 1)
    network.eval()
