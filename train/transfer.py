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

_FEWEST = 10
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
    world.require_texts("find its numbers")
    rows = world.rows("train+validation")
    tasks = world.tasks[rows]
    names = dict.fromkeys(tasks.tolist())
    for task in names:
        new = tasks == task
        if (~new).sum() > _FEWEST:
            yield f"unseen: {task}", held_out(world, rows[~new], rows[new], config)
    numbers = [re.search(r"\d+", world.questions[row].text) for row in rows]
    above = np.array([match is not None and int(match[0]) >= FIRST_NUMBER for match in numbers])
    if above.any() and (~above).sum() > _FEWEST:
        judged = held_out(world, rows[~above], rows[above], config)
        title = f"first number {FIRST_NUMBER} and above"
        yield f"{title}: all", judged
        for task in names:
            if (own := tasks[above] == task).any():
                yield f"{title}: {task}", judged.part(own)
