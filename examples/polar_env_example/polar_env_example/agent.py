"""An agent that leaves out one layer on short asks: ``short-asks`` or, with the longest such ask, ``short-asks:15``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.base import Decision
from agents.card import AgentCard
from polar_env.errors import ConfigError
from polar_env.program import Program
from polar_env.questions import Ask
from polar_env.worlds import AskWorld

__all__ = ["ShortAsksAgent", "load", "make"]

_LONGEST = 16


class ShortAsksAgent:
    """All layers but the one before the last for short asks, and all layers for others.

    Args:
        world: where it decides.
        longest: a short ask has at most this many characters.
        name: name of the row in a report.
    """

    def __init__(self, world: AskWorld, longest: int, name: str) -> None:
        self.whole, self.longest, self.name = world.identity, longest, name
        self.shorter = Program.identity(world.depth).skip(world.depth - 2, 1)

    def decide(self, asks: Sequence[Ask]) -> list[Decision]:
        """The program of each ask."""
        return [Decision.of(self.shorter if len(ask.text) <= self.longest else self.whole) for ask in asks]


def make(world: AskWorld, setting: str, seed: int) -> ShortAsksAgent:
    """The agent of a name.

    Raises:
        ConfigError: for a setting that is no number of characters.
    """
    if setting and not setting.isdecimal():
        raise ConfigError(f"'short-asks:{setting}': '{setting}' is no number of characters; write e.g. short-asks:15.")
    return ShortAsksAgent(world, int(setting or _LONGEST), f"short-asks {setting or _LONGEST}")


def load(folder: Path, card: AgentCard, world: AskWorld) -> ShortAsksAgent:
    """A saved agent: its card's ``config`` holds ``longest``."""
    return ShortAsksAgent(world, int(card.setting("longest")), card.name)
