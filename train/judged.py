"""From a recorded world to a saved agent: fitted on train and judged on validation questions, then fitted on both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from agents.base import Agent
from agents.card import save_agent
from agents.on_record import choose_on_record
from polar_env.config import Config
from polar_env.runtime import torch_threads
from polar_env.worlds import RecordedWorld, Reduction
from train.baselines import save_static_programs
from train.provenance import card_from_world
from train.static import static_of_world

__all__ = ["Savable", "judge", "train_judged"]

Rows = NDArray[np.intp]


class Savable(Agent, Protocol):
    """An agent that reads one state and can be saved."""

    look: int
    """Layers of the identity that run before the choice."""

    def settings(self) -> dict[str, object]:
        """What its card's ``config`` holds."""

    def saved(self, reduction: Reduction) -> dict[str, bytes]:
        """The files beside its card."""


def train_judged(
    world: RecordedWorld, folder: Path, kind: str, name: str, config: Config, seed: int, fit: Callable[[str], Savable]
) -> Path:
    """Fit, judge and save; test questions stay unseen.

    Args:
        world: the world.
        folder: gets ``agents/NAME``, ``agents/best-static`` and ``agents/best-static-per-task``.
        kind: kind of the agent.
        name: its name.
        config: the settings, for the card.
        seed: for the card.
        fit: makes the agent from the questions of a split.

    Returns:
        The agent's folder.

    Raises:
        ConfigError: if the world holds no texts, or no states where the agent looks.
    """
    world.require_texts("say on an agent's card what it was trained on")
    train, validation, agents = world.rows("train"), world.rows("validation"), folder / "agents"
    with torch_threads(1), torch.random.fork_rng(devices=[]):
        judged = judge(world, fit("train"), train, validation)
        agent = fit("train+validation")
    static = static_of_world(world)
    card = card_from_world(world, kind, config, seed, static, {"validation": judged})
    card = card.model_copy(update={"name": name, "config": card.config | agent.settings()})
    save_agent(card, agents / name, agent.saved(world.reduction.at(agent.look)))
    save_static_programs(static, card, agents)
    return agents / name


def judge(world: RecordedWorld, agent: Agent, seen: Rows, rows: Rows) -> dict[str, float]:
    """What an agent is worth on questions, beside the program that is right most often on those that it has seen.

    Args:
        world: the world.
        agent: decides.
        seen: rows of the questions that it was fitted on.
        rows: rows of the others.
    """
    right = world.arrays["right"]
    chosen, costs = choose_on_record(world, agent, rows)
    return {
        "pass_at_1": float(right[rows, chosen].mean()),
        "cost": float(costs.mean()),
        "static_pass_at_1": float(right[rows, right[seen].mean(0).argmax()].mean()),
        "identity_pass_at_1": float(right[rows, 0].mean()),
        "questions": len(rows),
    }
