"""From a recorded world to a peer's agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.card import save_agent
from agents.menu import MenuAgent
from agents.peers import ablr, blockdrop, drllm, polar
from polar_env.runtime import torch_threads
from polar_env.worlds import RecordedWorld
from train.baselines import save_static_programs
from train.peers.ablr import teach_ablr
from train.peers.blockdrop import teach_blockdrop
from train.peers.config import PeerConfig
from train.peers.drllm import teach_drllm
from train.peers.lesson import Lesson, Taught
from train.peers.polar import teach_polar
from train.provenance import card_from_world
from train.static import static_of_world
from train.value import menu_costs

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
    world.require_texts("say on an agent's card what it was trained on")
    train, validation, agents = world.rows("train"), world.rows("validation"), folder / "agents"
    judged = _judge(world, _fit(world, train, name, config, seed), train, validation)
    agent = _fit(world, np.concatenate([train, validation]), name, config, seed)
    static = static_of_world(world)
    card = card_from_world(world, name, config, seed, static, {"validation": judged})
    card = card.model_copy(update={"config": card.config | agent.settings()})
    save_agent(card, agents / name, agent.saved(world.reduction.at(config.look)))
    save_static_programs(static, card, agents)
    return agents / name


def _fit(world: RecordedWorld, rows: Rows, name: str, config: PeerConfig, seed: int) -> MenuAgent:
    costs, start = menu_costs(world, config.look), world.identity.layers[: config.look]
    observations = world.observations([(world.questions[row].ask, start) for row in rows])
    lesson = Lesson(world.programs, world.depth, observations, world.arrays["right"][rows], costs)
    with torch_threads(1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        taught = PEERS[name](lesson, config)
    return MenuAgent(
        world.asks, [world.programs[column] for column in taught.columns], taught.scorer, config.look, name
    )  # fmt: skip


def _judge(world: RecordedWorld, agent: MenuAgent, train: Rows, validation: Rows) -> dict[str, float]:
    """What it is worth on validation questions, beside the program that is right most often on train questions."""
    right = world.arrays["right"]
    decisions = agent.decide([world.questions[row].ask for row in validation])
    chosen = [world.column(decision.program) for decision in decisions]
    return {
        "pass_at_1": float(right[validation, chosen].mean()),
        "cost": float(np.mean([len(each.program) + each.layers for each in decisions])) / world.depth,
        "static_pass_at_1": float(right[validation, right[train].mean(0).argmax()].mean()),
        "identity_pass_at_1": float(right[validation, 0].mean()),
        "questions": len(validation),
    }
