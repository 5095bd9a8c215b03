"""Teaches PoLar's predictor (arXiv 2606.06574) all right programs of a question at once.

The loss of a program is linear in the log-probabilities of its segments' beginnings and operations. So the programs of
a question, which share one forward pass, are summed before it: the same gradient as from a batch of all of them.

Letters: ``Q`` questions, ``B`` questions of a batch, ``D`` the model's depth, ``M`` programs that segments can express,
``W`` the predictor's width, ``O`` numbers of an observation.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.peers.polar import PolarScorer
from agents.peers.segments import OPERATIONS, express
from polar_env.errors import ConfigError
from train.peers.config import PolarConfig
from train.peers.lesson import Lesson, Taught, minimise

__all__ = ["PolarNetwork", "teach_polar"]


class PolarNetwork(nn.Module):
    """The predictor; `agents.peers.polar.PolarScorer` evaluates it by these names.

    Args:
        inputs: numbers ``O`` of an observation: the components of two states.
        depth: the LLM's depth.
        config: the settings.
    """

    def __init__(self, inputs: int, depth: int, config: PolarConfig) -> None:
        super().__init__()
        width = config.width
        self.read = nn.ModuleList(nn.Linear(inputs // 2, width) for _ in range(2))
        self.layers = nn.Parameter(torch.randn(depth, width))
        self.cross = nn.MultiheadAttention(width, config.heads, config.dropout, batch_first=True)
        block = nn.TransformerEncoderLayer(width, config.heads, 4 * width, config.dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, config.blocks, enable_nested_tensor=False)
        self.begins, self.operations = nn.Linear(width, 1), nn.Linear(width, OPERATIONS)

    def forward(self, read: Tensor) -> tuple[Tensor, Tensor]:
        """Logits that a segment begins at each layer, ``[B, D]``, and of its operation, ``[B, D, 3]``."""
        tokens = torch.stack([part(half) for part, half in zip(self.read, read.chunk(2, 1), strict=True)], 1)
        layers = self.layers.expand(len(read), -1, -1)  # [B, D, W]
        x = self.encoder(layers + self.cross(layers, tokens, tokens, need_weights=False)[0])
        return self.begins(x)[..., 0], self.operations(x)


def teach_polar(lesson: Lesson, config: PolarConfig) -> Taught:
    """Cross-entropies of beginnings (the mean over layers but the first) and of operations (over the segments)."""
    columns, starts, operations = express(lesson.programs, lesson.depth)
    weights = torch.from_numpy(_weights(lesson, columns, config))  # [Q, M]
    asks = torch.nonzero(weights.sum(1))[:, 0]  # where no program is right there is nothing to imitate
    if not len(asks):
        raise ConfigError("no recorded program is right on any question, so there is nothing to imitate.")
    weights, read = weights[asks], lesson.read[asks]
    begin = weights @ torch.from_numpy(starts[:, 1:] / (lesson.depth - 1))  # [Q, D - 1]
    weight = weights.sum(1, keepdim=True)  # [Q, 1]
    each = operations / starts.sum(1)[:, None, None]
    operate = torch.einsum("qm,mdc->qdc", weights, torch.from_numpy(each))  # [Q, D, 3]
    network = PolarNetwork(read.shape[1], lesson.depth, config)

    def loss_of(batch: Tensor, epoch: int) -> Tensor:
        begins, operates = network(read[batch])
        of_all = weight[batch] / (lesson.depth - 1)
        begins = begins[:, 1:]
        likely = begin[batch] * nn.functional.logsigmoid(begins)
        likely = likely + (of_all - begin[batch]) * nn.functional.logsigmoid(-begins)
        loss = -likely.sum() - (operate[batch] * torch.log_softmax(operates, 2)).sum()
        mean: Tensor = loss / weight[batch].sum()
        return mean

    def schedule(share: float, step: int) -> float:
        return min(1.0, step / max(config.warmup, 1)) * 0.5 * (1 + math.cos(math.pi * share))

    minimise(network, loss_of, len(read), config, schedule)
    matrix = np.hstack([starts[:, 1:], operations.reshape(len(columns), -1)]).T.copy()
    arrays = {name: array.numpy().copy() for name, array in network.state_dict().items()}
    centre, scale = lesson.standards
    return Taught(columns, PolarScorer(arrays | {"centre": centre, "scale": scale}, matrix, config.heads))


def _weights(lesson: Lesson, columns: list[int], config: PolarConfig) -> NDArray[np.float32]:
    """How much each program of a question counts, ``[Q, M]``: the right ones, one question as much as another, shorter
    programs more, and the identity less where a shorter one is right.
    """
    lengths = np.array([len(lesson.programs[column]) for column in columns])
    right = lesson.right[:, columns].astype(np.float64)
    weights = right / right.sum(1, keepdims=True).clip(1) * np.exp(-config.length_preference * (lengths - lesson.depth))
    shorter = right[:, lengths < lesson.depth].any(1)
    weights[shorter, columns.index(0)] *= config.identity_weight
    return np.asarray(weights, np.float32)
