"""Recording the states that agents see: after each layer of the identity, for every question.

One pass for each question, so that it may run in the floating-point type that agents will run in, also where verdicts
were recorded in a faster one.

Letters: ``Q`` questions, ``S`` prefixes of the identity, the empty one first, ``H`` the LLM's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from polar_env.progress import Advance
from polar_env.questions import Question
from polar_env.tables import keep_settings, write_whole
from polar_env.worlds import LiveWorld
from train.record import read_shard, settings_of

__all__ = ["record_states"]

_META = "states.json"


def record_states(
    world: LiveWorld,
    questions: Sequence[Question],
    folder: Path,
    *,
    piece: int = 64,
    on_questions: Advance = lambda _: None,
) -> tuple[dict[str, Any], NDArray[np.float16]]:
    """Record states; pieces that the folder has already are left out.

    Args:
        world: executes the identity.
        questions: the questions.
        folder: of the recording.
        piece: questions of a file.
        on_questions: called with the number of questions that were just recorded.

    Returns:
        Which LLM gave them, and what an agent sees after each prefix, ``float16 [Q, S, 2 H]``.

    Raises:
        FingerprintError: if the folder holds states of another LLM, prompt or set of questions.
    """
    meta = settings_of(world, questions) | {"piece": piece}
    keep_settings(folder / _META, meta, "states", "Delete the files states* there.")
    prefixes = [world.identity.layers[:length] for length in range(world.depth + 1)]
    pieces = []
    for number, start in enumerate(range(0, len(questions), piece)):
        path, some = folder / f"states-{number:05d}.safetensors", questions[start : start + piece]
        if not path.is_file():
            with world.from_nothing():
                seen = world.asks.observations([(question.ask, prefix) for question in some for prefix in prefixes])
            states = seen.astype(np.float16).reshape(len(some), len(prefixes), -1)
            write_whole(path, save({"states": states}))
            on_questions(len(some))
        pieces.append(read_shard(path)[1]["states"])
    return meta, np.concatenate(pieces)
