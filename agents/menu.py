"""Chooses among a menu of programs by a score of each, read from the LLM's hidden states after a few layers.

Letters: ``N`` asks, ``M`` programs of the menu, ``O`` numbers of an observation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from agents.base import Decision
from agents.card import AgentCard
from agents.reading import Arrays, own_arrays, read_weights, reading_world, saved_reduction
from polar_env.program import Program
from polar_env.questions import Ask
from polar_env.worlds import AskWorld, Reduction

__all__ = ["WEIGHTS", "MenuAgent", "Scorer", "load_menu"]

WEIGHTS = "scorer.safetensors"


class Scorer(Protocol):
    """What learners make: numbers by which the programs of a menu are ranked. It needs neither torch nor the world."""

    @property
    def flops(self) -> float:
        """Floating-point operations of one ask's scores."""

    def scores(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """How good each program is, ``[N, M]``, from observations ``[N, O]``; the largest is chosen."""

    def arrays(self) -> Arrays:
        """All that it consists of, to be saved."""


class MenuAgent:
    """Runs the first layers of the identity, scores the programs of a menu, and chooses the best one.

    Args:
        world: executes; its observations are reduced as those that the scorer was fitted on.
        programs: the menu.
        scorer: scores them.
        look: layers of the identity that run before the choice.
        name: name of the row in a report.
    """

    def __init__(self, world: AskWorld, programs: Sequence[Program], scorer: Scorer, look: int, name: str) -> None:
        self.world, self.programs, self.scorer, self.look, self.name = world, list(programs), scorer, look, name
        self.unused = [program.layers_after(look) - len(program) for program in self.programs]

    def decide(self, asks: Sequence[Ask]) -> list[Decision]:
        """The programs of the menu, the best first; of equal ones the earlier."""
        start = self.world.identity.layers[: self.look]
        scores = self.scorer.scores(self.world.observations([(ask, start) for ask in asks]))  # [N, M]
        return [
            Decision.of(*(self.programs[i] for i in order), layers=self.unused[order[0]], flops=self.scorer.flops)
            for order in np.argsort(-scores, axis=1, kind="stable")
        ]

    def saved(self, reduction: Reduction) -> dict[str, bytes]:
        """The files beside its card; see `load_menu`.

        Args:
            reduction: that of its world, at the depth where it looks alone.
        """
        return {WEIGHTS: save(self.scorer.arrays() | saved_reduction(reduction))}

    def settings(self) -> dict[str, object]:
        """What its card's ``config`` holds; see `load_menu`."""
        return {"programs": [str(program) for program in self.programs], "look": self.look}


def load_menu(folder: Path, card: AgentCard, world: AskWorld, scorer_of: Callable[[Arrays], Scorer]) -> MenuAgent:
    """A saved agent: its card's ``config`` holds `MenuAgent.settings`, its weights lie beside the card.

    Args:
        folder: the agent's.
        card: its card.
        world: where it decides.
        scorer_of: makes its scorer of the arrays that `Scorer.arrays` gave.

    Raises:
        ConfigError: if the card lacks a setting.
        FingerprintError: if the card names no hash of the weights, or the world reduces states in another way.
    """
    arrays, look = read_weights(folder, card, WEIGHTS), int(card.setting("look"))
    programs = [Program.parse(text, world.depth) for text in card.setting("programs")]
    scorer = scorer_of(own_arrays(arrays))
    return MenuAgent(reading_world(world, look, arrays, folder), programs, scorer, look, card.name)
