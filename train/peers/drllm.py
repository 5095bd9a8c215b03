"""Teaches Dr.LLM's routers (arXiv 2510.12773) the best program of each question, layer by layer.

Letters: ``Q`` questions, ``B`` questions of a batch, ``D`` the model's depth.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from agents.peers.drllm import express
from train.peers.config import DrLLMConfig
from train.peers.lesson import Lesson, Taught, minimise
from train.peers.routers import Routers

__all__ = ["teach_drllm"]

_SKIP_EXECUTE_REPEAT = 3


def teach_drllm(lesson: Lesson, config: DrLLMConfig) -> Taught:
    """Focal loss (Lin et al. 2017) of each router's choice, rare choices weighted up (Cui et al. 2019).

    A question's label is the shortest right program that routers can express, of equally short ones the first recorded;
    the identity where none is right.
    """
    columns, matrix = express(lesson.programs, lesson.depth)
    lengths = np.array([len(lesson.programs[column]) for column in columns])
    best = np.where(lesson.right[:, columns], lengths, np.inf).argmin(1)  # the identity, 0, where all are infinite
    label = torch.from_numpy(matrix.T[best].reshape(len(best), lesson.depth, -1).argmax(2))  # [Q, D]
    weights, read = _class_weights(label, config.balance), lesson.read
    network = Routers(read.shape[1], lesson.depth, config.hidden, _SKIP_EXECUTE_REPEAT, config.dropout)

    def loss_of(batch: Tensor, epoch: int) -> Tensor:
        log_probs = torch.log_softmax(network(read[batch]), 2)  # [B, D, 3]
        chosen = log_probs.gather(2, label[batch, :, None]).squeeze(2)  # [B, D]
        loss: Tensor = -(weights[label[batch]] * (1 - chosen.exp()) ** config.focus * chosen).mean()
        return loss

    minimise(network, loss_of, len(label), config)
    return Taught(columns, network.scorer(lesson, matrix))


def _class_weights(label: Tensor, balance: float) -> Tensor:
    """``(1 - beta) / (1 - beta ** n)`` for a choice made ``n`` times, with mean 1 over the choices, ``[3]``."""
    counts = torch.bincount(label.flatten(), minlength=_SKIP_EXECUTE_REPEAT).clamp(min=1)
    weights = (1 - balance) / (1 - balance**counts)
    return weights / weights.mean()
