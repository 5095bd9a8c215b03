"""From what was recorded to a recorded world.

Letters: ``Q`` questions, ``S`` depths at which states are kept, ``H`` the LLM's width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from polar_env.errors import FingerprintError, TraceError
from polar_env.questions import Prompts, Question
from polar_env.worlds import RecordedWorld, Reduction, Unstable, WorldCard
from train.record import read_recording

__all__ = ["pack"]


def pack(
    folder: Path,
    questions: Sequence[Question],
    states: tuple[Mapping[str, Any], NDArray[np.float16]],
    *,
    name: str,
    sources: Sequence[str],
    licence: str,
    components: int = 96,
    every: int = 2,
    answers: pa.Table | None = None,
    unstable: Unstable | None = None,
) -> RecordedWorld:
    """Make a recorded world of a whole recording.

    States are reduced by an analysis of those of train questions; every few depths are kept.

    Args:
        folder: what `record` wrote.
        questions: those that were recorded.
        states: what `record_states` gave.
        name: how the world is called.
        sources: where the questions come from, as question specs.
        licence: under which licence they may be used.
        components: numbers kept of a state; fewer where there are fewer train questions.
        every: states are kept after each so many layers of the identity.
        answers: what programs wrote, rows of `WRITTEN`.
        unstable: how many verdicts are others in the type of the states.

    Raises:
        TraceError: if the recording is not whole, or has too few train questions.
        FingerprintError: if states are of another LLM, prompt or set of questions than verdicts.
    """
    meta, ids, arrays = read_recording(folder)
    by_id = {question.id: question for question in questions}
    if set(ids) != set(by_id):
        raise TraceError(f"{folder} holds {len(ids)} questions, not the {len(by_id)} given; give those of its command.")
    seen, all_states = states
    changed = [key for key in ("model", "depth", "prompts", "questions") if seen[key] != meta[key]]
    if changed:
        raise FingerprintError(f"the states in {folder} differ from its verdicts in: {', '.join(changed)}.")
    asked = [by_id[question_id] for question_id in ids]
    train = np.array([question.split == "train" for question in asked])
    if train.sum() < 3:
        raise TraceError(f"{folder} holds {train.sum()} train questions; states are reduced by those of 3 or more.")
    depths = list(range(0, int(meta["depth"]) + 1, every))
    kept_states = all_states[:, depths].astype(np.float32).reshape(len(asked), len(depths), 2, -1)  # [Q, S, 2, H]
    most = min(components, int(train.sum()) - 1, kept_states.shape[-1])
    reduction = Reduction.fit(kept_states[train], depths, most)
    flat = kept_states.reshape(len(asked), len(depths), -1)
    codes = [reduction.apply(flat[:, at], np.full(len(asked), at)) for at in range(len(depths))]
    card = WorldCard(
        name=name, **{key: seen[key] for key in ("model", "fingerprint", "depth", "dtype", "device", "versions")},
        verdicts_dtype=meta["dtype"], verdicts_device=meta["device"],
        prompts=Prompts.model_validate(meta["prompts"]), sources=list(sources), licence=licence,
        programs=meta["programs"], depths=depths, unstable=unstable,
    )  # fmt: skip
    kept = {key: array if array.dtype == bool else array.astype(np.float16) for key, array in arrays.items()}
    kept["codes"] = np.stack(codes, axis=1).astype(np.float16)
    return RecordedWorld(card, asked, kept, reduction, answers)
