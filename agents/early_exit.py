"""Early exit by confidence (Schuster et al. 2022, CALM; here one exit for an ask, at its last token)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.base import Decision
from agents.card import AgentCard
from polar_env.errors import ConfigError
from polar_env.program import Program
from polar_env.questions import Ask
from polar_env.worlds import AskWorld

__all__ = ["EarlyExitAgent", "load_early_exit"]


class EarlyExitAgent:
    """Stops after the first layer at which the LLM, read out there, is sure enough of the next token.

    The answer is written by the layers up to there. Looking costs a read-out at each layer, which is counted.

    Args:
        world: executes.
        threshold: it stops where the likeliest token's probability is above this; more than 0, and at most 1, at which
            it never stops early: a probability of 1 is reached in float32.
        first: the layer after which it looks first; by default the middle.
        name: name of the row in a report.

    Raises:
        ConfigError: for a threshold out of range.
    """

    def __init__(self, world: AskWorld, threshold: float, first: int | None = None, name: str = "early-exit") -> None:
        if not 0 < threshold <= 1:
            raise ConfigError(f"early exit at a confidence of {threshold}: expected is a number above 0, at most 1.")
        self.world, self.threshold, self.name = world, threshold, name
        self.first = world.depth // 2 if first is None else first

    def decide(self, asks: Sequence[Ask]) -> list[Decision]:
        """For each ask the layers up to its exit."""
        exits = dict.fromkeys(range(len(asks)), self.world.depth)
        undecided = list(exits)
        for length in range(self.first + 1, self.world.depth):
            sure = self.world.confidences([(asks[i], tuple(range(length))) for i in undecided])[:, 0] > self.threshold
            exits |= {i: length for i, stops in zip(undecided, sure, strict=True) if stops}
            undecided = [i for i, stops in zip(undecided, sure, strict=True) if not stops]
            if not undecided:
                break
        return [
            Decision.of(
                Program(tuple(range(length))),
                flops=self.world.read_out_flops * (min(length, self.world.depth - 1) - self.first),
            )
            for length in exits.values()
        ]


def load_early_exit(folder: Path, card: AgentCard, world: AskWorld) -> EarlyExitAgent:
    """A saved early exit: its card's ``config`` holds the ``threshold``."""
    return EarlyExitAgent(world, float(card.setting("threshold")), name=card.name)
