"""Several fixed programs for every ask, and the answer that the LLM itself is surest of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.base import Response
from agents.card import AgentCard
from polar_env.errors import ConfigError
from polar_env.program import Program
from polar_env.questions import Ask
from polar_env.worlds import AskWorld

__all__ = ["EnsembleAgent", "load_ensemble"]


class EnsembleAgent:
    """Executes all its programs and answers with the most confident answer.

    Args:
        world: executes.
        programs: at least one; the earlier one wins a tie.
        name: name of the row in a report.

    Raises:
        ConfigError: without a program.
    """

    def __init__(self, world: AskWorld, programs: Sequence[Program], name: str = "ensemble") -> None:
        if not programs:
            raise ConfigError("an ensemble has no programs; give at least one, e.g. ensemble:0-29|0-12 14-29.")
        self.world, self.programs, self.name = world, tuple(programs), name

    def respond(self, asks: Sequence[Ask]) -> list[Response]:
        """The answer of largest confidence."""
        columns = [self.world.answers(asks, program) for program in self.programs]
        rows = zip(*columns, strict=True)
        surest = [(row, max(range(len(row)), key=lambda i: row[i].confidence)) for row in rows]
        return [Response(row[best], self.programs, chosen=best) for row, best in surest]


def load_ensemble(folder: Path, card: AgentCard, world: AskWorld) -> EnsembleAgent:
    """A saved ensemble: its card's ``config`` holds the ``programs``."""
    programs = [Program.parse(str(text), world.depth) for text in card.setting("programs")]
    return EnsembleAgent(world, programs, card.name)
