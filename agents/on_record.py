"""What an agent chooses on a recorded world, by columns of its table. No verdict is read while it chooses.

Letters: ``Q`` questions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.base import Agent
from polar_env.runner.choosing import no_verdicts_for
from polar_env.worlds import RecordedWorld

__all__ = ["choose_on_record"]


def choose_on_record(
    world: RecordedWorld, agent: Agent, rows: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Let an agent decide on some questions.

    Args:
        world: the world.
        agent: decides.
        rows: rows of the questions.

    Returns:
        The column of each chosen program, and its executed layers / D with those that deciding took, ``[Q]`` each.

    Raises:
        LeakError: if the agent reads a verdict.
    """
    with no_verdicts_for(agent.name):
        decisions = agent.decide([world.questions[row].ask for row in rows])
    columns = np.array([world.column(decision.program) for decision in decisions], np.intp)
    layers = np.array([len(decision.program) + decision.layers for decision in decisions])
    return columns, layers / world.depth
