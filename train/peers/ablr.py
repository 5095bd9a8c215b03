"""Teaches the block-loop router: the reward that is expected of its choice is known, and is made as large as can be.

Letters: ``Q`` questions, ``B`` questions of a batch, ``M`` programs that only repeat.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agents.peers.ablr import express
from train.peers.config import AblrConfig
from train.peers.lesson import Lesson, Taught, minimise
from train.peers.routers import Routers

__all__ = ["teach_ablr"]


def teach_ablr(lesson: Lesson, config: AblrConfig) -> Taught:
    """A softmax over programs; the verdicts of all are recorded, so that nothing has to be drawn."""
    columns, loops = express(lesson.programs, lesson.depth)
    rewards = torch.from_numpy(lesson.right[:, columns] - config.price * lesson.costs[columns]).float()  # [Q, M]
    matrix, read = torch.from_numpy(loops), lesson.read
    network = Routers(read.shape[1], 1, config.hidden, len(loops), config.dropout)

    def loss_of(batch: Tensor, epoch: int) -> Tensor:
        chosen = torch.softmax(network(read[batch])[:, 0] @ matrix, 1)  # [B, M]
        loss: Tensor = -(chosen * rewards[batch]).sum(1).mean()
        return loss

    minimise(network, loss_of, len(read), config)
    return Taught(columns, network.scorer(lesson, loops))
