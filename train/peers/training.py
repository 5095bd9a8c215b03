"""From a recorded world to a peer's agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.menu import MenuAgent
from agents.peers import ablr, blockdrop, drllm, polar
from polar_env.worlds import RecordedWorld
from train.judged import train_judged
from train.peers.ablr import teach_ablr
from train.peers.blockdrop import teach_blockdrop
from train.peers.config import PeerConfig
from train.peers.drllm import teach_drllm
from train.peers.lesson import Lesson, Taught
from train.peers.polar import teach_polar
from train.value import menu_costs, observations_of

__all__ = ["PEERS", "train_peer"]

PEERS: Mapping[str, Callable[[Lesson, Any], Taught]] = {
    polar.KIND: teach_polar,
    drllm.KIND: teach_drllm,
    blockdrop.KIND: teach_blockdrop,
    ablr.KIND: teach_ablr,
}
"""By kind of agent."""
Rows = NDArray[np.intp]


def train_peer(world: RecordedWorld, folder: Path, name: str, config: PeerConfig, seed: int = 0) -> Path:
    """Fit on train and judge on validation questions, then fit on both; test questions stay unseen.

    Args:
        world: the world.
        folder: gets ``agents/NAME``, ``agents/best-static`` and ``agents/best-static-per-task``.
        name: one of `PEERS`.
        config: its settings.
        seed: of weights, batches and draws.

    Returns:
        The agent's folder.

    Raises:
        ConfigError: if the world holds no texts, or no states where the agent looks.
    """

    def fit(split: str) -> MenuAgent:
        rows = np.concatenate([world.rows(each) for each in split.split("+")])
        return _fit(world, rows, name, config, seed)

    return train_judged(world, folder, name, name, config, seed, fit)


def _fit(world: RecordedWorld, rows: Rows, name: str, config: PeerConfig, seed: int) -> MenuAgent:
    costs, observations = menu_costs(world, config.look), observations_of(world, rows, config.look)
    lesson = Lesson(world.programs, world.depth, observations, world.arrays["right"][rows], costs)
    torch.manual_seed(seed)
    taught = PEERS[name](lesson, config)
    return MenuAgent(
        world.asks, [world.programs[column] for column in taught.columns], taught.scorer, config.look, name
    )  # fmt: skip
