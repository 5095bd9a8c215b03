"""Teaches BlockDrop's policy (arXiv 1711.08393) by trial: REINFORCE with the most likely program as baseline.

Letters: ``Q`` questions, ``B`` questions of a batch, ``D`` the model's depth, ``M`` programs that only drop.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.peers.blockdrop import express
from train.peers.config import BlockDropConfig
from train.peers.lesson import Lesson, Taught, minimise
from train.peers.routers import Routers

__all__ = ["teach_blockdrop"]


def teach_blockdrop(lesson: Lesson, config: BlockDropConfig) -> Taught:
    """One draw for each question of a batch; the policy is renormalised over the recorded programs.

    As in the paper (section 3.3) the last layers are learned first: one more layer may be dropped with each epoch.
    """
    columns, keep = express(lesson.programs, lesson.depth)  # [D, M]
    rewards = torch.from_numpy(_rewards(lesson.right[:, columns], keep.mean(0), config.penalty))
    kept, read = torch.from_numpy(keep), lesson.read
    first_dropped = (kept == 0).int().argmax(0) + lesson.depth * kept.all(0)  # [M]; D for the identity
    network = Routers(read.shape[1], 1, config.hidden, lesson.depth, config.dropout)

    def loss_of(batch: Tensor, epoch: int) -> Tensor:
        closed = first_dropped < lesson.depth - 1 - epoch
        keeps = torch.sigmoid(network(read[batch])[:, 0])  # [B, D]
        policy = _policy(config.bound * keeps + (1 - config.bound) * (1 - keeps), kept, closed)
        drawn, likeliest = policy.sample(), policy.logits.argmax(1)
        earned = rewards[batch]
        advantages = earned.gather(1, drawn[:, None]) - earned.gather(1, likeliest[:, None])  # [B, 1]
        log_probs = policy.log_prob(drawn)
        entropy = policy.entropy()
        loss: Tensor = -(advantages[:, 0] * log_probs).mean() - config.entropy * entropy.mean()
        return loss

    minimise(network, loss_of, len(read), config)
    return Taught(columns, network.scorer(lesson, keep))


def _rewards(right: NDArray[np.bool_], share: NDArray[np.float32], penalty: float) -> NDArray[np.float32]:
    """``1 - share ** 2`` of the layers kept where the answer is right, else minus the penalty, ``[Q, M]``."""
    return np.where(right, 1 - share**2, -penalty).astype(np.float32)


def _policy(keeps: Tensor, kept: Tensor, closed: Tensor) -> torch.distributions.Categorical:
    """Over programs ``[M]``, from the probability with which each layer is kept, ``[B, D]``."""
    logits = keeps.log() @ kept + (1 - keeps).log() @ (1 - kept)
    return torch.distributions.Categorical(logits=logits.masked_fill(closed, -torch.inf))
