"""The networks of `agents.peers.routers`, as torch trains them.

Letters: ``B`` questions of a batch, ``O`` numbers of an observation, ``R`` routers, ``H`` hidden units, ``C`` outputs.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.peers.routers import RouterScorer
from train.peers.lesson import Lesson

__all__ = ["Routers"]


class Routers(nn.Module):
    """``R`` networks side by side: linear, GELU, dropout, linear; initialised as `torch.nn.Linear` is.

    Args:
        inputs: numbers of an observation.
        routers: how many.
        hidden: hidden units of each.
        outputs: logits of each.
        dropout: share of hidden units left out in training.
    """

    def __init__(self, inputs: int, routers: int, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.first, self.first_bias = _uniform(routers, inputs, hidden), _uniform(routers, 1, hidden, fan=inputs)
        self.second, self.second_bias = _uniform(routers, hidden, outputs), _uniform(routers, 1, outputs, fan=hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, read: Tensor) -> Tensor:
        """The logits, ``[B, R, C]``, of what was read, ``[B, O]``."""
        hidden = self.dropout(nn.functional.gelu(read @ self.first + self.first_bias))  # [R, B, H]
        logits: Tensor = hidden @ self.second + self.second_bias  # [R, B, C]
        return logits.movedim(0, 1)

    def scorer(self, lesson: Lesson, matrix: NDArray[np.float32]) -> RouterScorer:
        """The trained networks as numpy evaluates them."""
        arrays = {name: parameter.detach().numpy().copy() for name, parameter in self.named_parameters()}
        centre, scale = lesson.standards
        return RouterScorer.of(arrays | {"centre": centre, "scale": scale, "matrix": matrix})


def _uniform(*shape: int, fan: int | None = None) -> nn.Parameter:
    bound = (fan or shape[1]) ** -0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
