"""How far a value agent's gain reaches: fitted on some kinds of questions, it chooses for others.

Train and validation questions alone; test questions stay unseen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from polar_env.worlds import RecordedWorld
from train.config import ValueConfig
from train.value import OutOfFold, held_out

__all__ = ["FIRST_NUMBER", "transfers"]

FIRST_NUMBER = 50
"""Questions whose first number is below it are fitted on, the others judged."""


def transfers(world: RecordedWorld, config: ValueConfig) -> Iterator[tuple[str, OutOfFold]]:
    """Each task as one that was never seen; then first numbers out of the range that was seen.

    Args:
        world: the world.
        config: the settings.

    Yields:
        What is new, and what the agent is worth there; parts that leave too few questions are left out.
    """
    rows = world.rows("train+validation")
    tasks = world.tasks[rows]
    parts = {f"unseen: {task}": tasks == task for task in dict.fromkeys(tasks.tolist())}
    numbers = [re.search(r"\d+", world.questions[row].text) for row in rows]
    above = np.array([match is not None and int(match[0]) >= FIRST_NUMBER for match in numbers])
    for task in dict.fromkeys(tasks[above].tolist()):
        parts[f"first number {FIRST_NUMBER} and above: {task}"] = above & (tasks == task)
    parts[f"first number {FIRST_NUMBER} and above: all"] = above
    for name, new in parts.items():
        seen = ~above if name.startswith("first") else ~new
        if seen.sum() > 10 and new.any():
            yield name, held_out(world, rows[seen], rows[new], config)
