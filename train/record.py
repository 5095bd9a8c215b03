"""Recording: shared programs are executed on many questions once; what learners may see and judges must know is kept.

A recording is a folder of safetensors shards, one for each piece of questions, and ``recording.json``. It goes on where
it stopped. Nothing in ``own``, ``choices`` and ``states`` depends on a gold answer: asks are executed by themselves.

Letters: ``Q`` questions, ``P`` programs, ``S`` prefixes, ``C`` choices, ``H`` the LLM's width.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from polar_env.errors import TraceError
from polar_env.program import Program
from polar_env.questions import Prompts, Question
from polar_env.tables import keep_settings, read_json, write_whole
from polar_env.worlds import LiveWorld, RecordedWorld, Reduction, WorldCard

__all__ = ["measure", "pack", "read_recording", "record"]

SCHEMA_VERSION = 1
_META = "recording.json"
Arrays = dict[str, NDArray[Any]]
Advance = Callable[[int], None]
"""Called with the number of verdicts that were just recorded."""


def record(
    world: LiveWorld,
    questions: Sequence[Question],
    programs: Sequence[Program],
    folder: Path,
    *,
    piece: int = 32,
    seconds: float | None = None,
    on_verdicts: Advance = lambda _: None,
) -> int:
    """Record programs on questions; pieces that the folder has already are left out.

    Args:
        world: executes programs.
        questions: what is asked.
        programs: the programs, the identity first.
        folder: gets the shards.
        piece: questions in a shard.
        seconds: start no piece later than this; None goes on to the end.
        on_verdicts: see `Advance`.

    Returns:
        How many questions are recorded now.

    Raises:
        FingerprintError: if the folder holds a recording of another model, prompt, set of questions or programs.
    """
    started, done = time.perf_counter(), 0
    choices = max((len(question.choices) for question in questions), default=0)
    _begin(world, questions, programs, folder, piece)
    for number, start in enumerate(range(0, len(questions), piece)):
        some = questions[start : start + piece]
        path = folder / f"{number:05d}.safetensors"
        if not path.is_file():
            if seconds is not None and time.perf_counter() - started > seconds:
                break
            with world.from_nothing():
                arrays = measure(world, some, programs, choices)
            write_whole(path, save(arrays, {"questions": json.dumps([question.id for question in some])}))
            on_verdicts(len(some) * len(programs))
        done += len(some)
    return done


def measure(world: LiveWorld, questions: Sequence[Question], programs: Sequence[Program], choices: int) -> Arrays:
    """What is kept of some questions.

    Args:
        world: executes programs.
        questions: the questions.
        programs: the programs, the identity first.
        choices: most choices ``C`` of a question; 0 where none has any.

    Returns:
        right: the verdict by teacher forcing, or of the likeliest choice, ``bool [Q, P]``.
        log_prob: log-probability of the gold answer in nats, per token for a choice, ``float32 [Q, P]``.
        own: how sure the LLM is of the first token of its own answer, ``float32 [Q, P, 3]``: see `AskWorld`.
        choices: log-probability per token of each choice, ``float32 [Q, P, C]``, NaN where there is none;
            not kept where ``C`` is 0.
        states: what an agent sees after each prefix of the identity, ``float16 [Q, S, 2 H]``.
    """
    asks = [question.ask for question in questions]
    shape = len(questions), len(programs)
    own = world.asks.confidences([(ask, program.layers) for ask in asks for program in programs])
    verdicts = world.verdicts([(question, program) for question in questions for program in programs])
    identity = programs[0].layers
    prefixes = [identity[:length] for length in range(len(identity) + 1)]
    states = world.asks.observations([(ask, prefix) for ask in asks for prefix in prefixes])
    arrays: Arrays = {
        "right": np.array([verdict.right for verdict in verdicts], bool).reshape(shape),
        "log_prob": np.array([verdict.log_prob for verdict in verdicts], np.float32).reshape(shape),
        "own": own.reshape(*shape, 3),
        "states": states.astype(np.float16).reshape(len(questions), len(prefixes), -1),
    }
    if choices:
        answers = world.answers(
            [ask for ask in asks for _ in programs if ask.choices], [p for ask in asks for p in programs if ask.choices]
        )
        scores = iter(answers)
        arrays["choices"] = np.full((*shape, choices), np.nan, np.float32)
        for row, ask in enumerate(asks):
            for column in range(len(programs) if ask.choices else 0):
                means = next(scores).choice_means
                arrays["choices"][row, column, : len(means)] = means
    return arrays


def read_recording(folder: Path) -> tuple[dict[str, Any], list[str], Arrays]:
    """All that was recorded: the metadata, ids of the questions, and the arrays of `measure`."""
    ids: list[str] = []
    pieces: list[Arrays] = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as shard:
            ids += json.loads(shard.metadata()["questions"])
            pieces.append({name: shard.get_tensor(name) for name in shard.keys()})  # noqa: SIM118 - no mapping
    arrays = {name: np.concatenate([each[name] for each in pieces]) for name in pieces[0]} if pieces else {}
    return read_json(folder / _META), ids, arrays


def pack(
    folder: Path,
    questions: Sequence[Question],
    *,
    name: str,
    sources: Sequence[str],
    licence: str,
    components: int = 96,
    every: int = 2,
) -> RecordedWorld:
    """Make a recorded world of a whole recording.

    States are reduced by an analysis of those of train questions; every few depths are kept.

    Args:
        folder: what `record` wrote.
        questions: those that were recorded.
        name: how the world is called.
        sources: where the questions come from, as question specs.
        licence: under which licence they may be used.
        components: numbers kept of a state; fewer where there are fewer train questions.
        every: states are kept after each so many layers of the identity.

    Raises:
        TraceError: if the recording is not whole, or has too few train questions.
    """
    meta, ids, arrays = read_recording(folder)
    by_id = {question.id: question for question in questions}
    if set(ids) != set(by_id):
        raise TraceError(
            f"{folder} holds {len(ids)} of {len(by_id)} questions; run the same command again until it is whole."
        )
    asked = [by_id[question_id] for question_id in ids]
    train = np.array([question.split == "train" for question in asked])
    if train.sum() < 3:
        raise TraceError(f"{folder} holds {train.sum()} train questions; states are reduced by those of 3 or more.")
    depths = list(range(0, int(meta["depth"]) + 1, every))
    states = arrays.pop("states")[:, depths].astype(np.float32)
    states = states.reshape(*states.shape[:2], 2, -1)  # [Q, S, 2, H]
    reduction = Reduction.fit(states[train], depths, min(components, int(train.sum()) - 1, states.shape[-1]))
    codes = [reduction.apply(states[:, i].reshape(len(asked), -1), np.full(len(asked), i)) for i in range(len(depths))]
    card = WorldCard(
        name=name, **{key: meta[key] for key in ("model", "fingerprint", "depth", "dtype", "device", "versions")},
        prompts=Prompts.model_validate(meta["prompts"]), sources=list(sources), licence=licence,
        programs=meta["programs"], depths=depths,
    )  # fmt: skip
    kept = {name: array if array.dtype == bool else array.astype(np.float16) for name, array in arrays.items()}
    return RecordedWorld(card, asked, kept | {"codes": np.stack(codes, axis=1).astype(np.float16)}, reduction)


def _begin(
    world: LiveWorld, questions: Sequence[Question], programs: Sequence[Program], folder: Path, piece: int
) -> None:
    meta = {
        "schema_version": SCHEMA_VERSION,
        "model": world.llm.name,
        "fingerprint": world.llm.fingerprint,
        "depth": world.depth,
        "dtype": world.llm.dtype_name,
        "device": world.llm.device.type,
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "prompts": world.prompts.model_dump(mode="json"),
        "programs": [str(program) for program in programs],
        "questions": hashlib.sha256("\x1f".join(f"{q.id} {q.answer}" for q in questions).encode()).hexdigest()[:16],
        "piece": piece,
    }
    keep_settings(folder / _META, meta, "a recording", "Delete it, or give another folder.")
