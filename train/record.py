"""Recording: shared programs are executed on many questions once, and what they made of them is kept.

A recording is a folder of safetensors shards and ``recording.json``. A shard is a tile of the table: some questions
under some programs. All questions meet the first programs before any meets the next ones. A recording goes on where it
stopped, and a tile is the same whoever records it. Nothing in ``own`` and ``choices`` depends on a gold answer: asks
are executed by themselves.

Letters: ``Q`` questions, ``P`` programs, ``C`` choices.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from polar_env.errors import TraceError
from polar_env.program import Program
from polar_env.progress import Advance
from polar_env.questions import Question
from polar_env.runner import ExecutionStats
from polar_env.tables import keep_settings, read_json, write_whole
from polar_env.worlds import LiveWorld

__all__ = [
    "Arrays", "Recorder", "Tile", "TileEngine", "measure", "read_recording", "read_shard", "record", "settings_of",
    "tiles_of",
]  # fmt: skip

SCHEMA_VERSION = 2
_META = "recording.json"
Arrays = dict[str, NDArray[Any]]
Recorder = Callable[[Iterable["Tile"]], Iterator[tuple["Tile", Arrays]]]
"""Executes tiles, and yields each with its arrays as soon as it is done, in any order."""


@runtime_checkable
class TileEngine(Protocol):
    """An engine that records, too."""

    stats: ExecutionStats

    def tiles(self, tiles: Iterable[Tile]) -> Iterator[tuple[Tile, Arrays]]:
        """See `Recorder`."""


@dataclass(frozen=True)
class Tile:
    """Some questions under some programs: what is recorded at a time.

    Attributes:
        name: of its file.
        questions: the questions.
        programs: the programs.
        choices: most choices ``C`` of a question of the whole recording; 0 where none has any.
    """

    name: str
    questions: tuple[Question, ...]
    programs: tuple[Program, ...]
    choices: int

    @property
    def count(self) -> int:
        """How many verdicts it holds."""
        return len(self.questions) * len(self.programs)


def tiles_of(questions: Sequence[Question], programs: Sequence[Program], piece: int, block: int) -> list[Tile]:
    """All tiles of a recording, in the order in which they are recorded.

    Args:
        questions: what is asked.
        programs: the programs, the identity first.
        piece: questions of a tile.
        block: programs of a tile.
    """
    choices = max((len(question.choices) for question in questions), default=0)
    return [
        Tile(
            f"{column:03d}-{row:05d}.safetensors",
            tuple(questions[start : start + piece]),
            tuple(programs[first : first + block]),
            choices,
        )
        for column, first in enumerate(range(0, len(programs), block))
        for row, start in enumerate(range(0, len(questions), piece))
    ]


def record(
    world: LiveWorld,
    questions: Sequence[Question],
    programs: Sequence[Program],
    folder: Path,
    *,
    piece: int = 32,
    block: int = 128,
    seconds: float | None = None,
    recorder: Recorder | None = None,
    on_verdicts: Advance = lambda _: None,
) -> int:
    """Record programs on questions; tiles that the folder has already are left out.

    Args:
        world: executes programs.
        questions: what is asked.
        programs: the programs, the identity first.
        folder: gets the shards.
        piece: questions of a tile.
        block: programs of a tile.
        seconds: start no tile later than this; None goes on to the end.
        recorder: executes tiles, for example on many machines; None takes the world, in this process.
        on_verdicts: see `Advance`.

    Returns:
        How many verdicts are recorded now.

    Raises:
        FingerprintError: if the folder holds a recording of another model, prompt or set of questions, or of other
            programs than the first ones of these.
    """
    started = time.perf_counter()
    _begin(world, questions, programs, folder, piece, block)
    tiles = tiles_of(questions, programs, piece, block)
    missing = [tile for tile in tiles if not (folder / tile.name).is_file()]
    in_time = takewhile(lambda _: seconds is None or time.perf_counter() - started <= seconds, missing)
    done = sum(tile.count for tile in tiles) - sum(tile.count for tile in missing)
    measured = recorder(in_time) if recorder else ((tile, measure(world, tile)) for tile in in_time)
    for tile, arrays in measured:
        write_whole(folder / tile.name, save(arrays, {"questions": json.dumps([q.id for q in tile.questions])}))
        on_verdicts(tile.count)
        done += tile.count
    return done


def measure(world: LiveWorld, tile: Tile) -> Arrays:
    """What is kept of a tile; everything is executed from nothing, so that nobody's past changes a bit.

    Args:
        world: executes programs.
        tile: ``Q`` questions under ``P`` programs.

    Returns:
        right: the verdict by teacher forcing, or of the likeliest choice, ``bool [Q, P]``.
        log_prob: log-probability of the gold answer in nats, per token for a choice, ``float32 [Q, P]``.
        own: how sure the LLM is of the first token of its own answer, ``float32 [Q, P, 3]``: see `AskWorld`.
        choices: log-probability per token of each choice, ``float32 [Q, P, C]``, NaN where there is none;
            not kept where ``C`` is 0.
    """
    asks, programs = [question.ask for question in tile.questions], tile.programs
    shape = len(asks), len(programs)
    with world.from_nothing():
        choices = {"choices": _choices(world, tile)} if tile.choices else {}  # before anything depends on an answer
        own = world.asks.confidences([(ask, program.layers) for ask in asks for program in programs])
        verdicts = world.verdicts([(question, program) for question in tile.questions for program in programs])
        arrays: Arrays = {
            "right": np.array([verdict.right for verdict in verdicts], bool).reshape(shape),
            "log_prob": np.array([verdict.log_prob for verdict in verdicts], np.float32).reshape(shape),
            "own": own.reshape(*shape, 3),
        }
    return arrays | choices


def _choices(world: LiveWorld, tile: Tile) -> NDArray[np.float32]:
    scores = np.full((len(tile.questions), len(tile.programs), tile.choices), np.nan, np.float32)
    rows = [row for row, question in enumerate(tile.questions) if question.choices]
    pairs = [(row, column) for row in rows for column in range(len(tile.programs))]
    answers = world.answers(
        [tile.questions[row].ask for row, _ in pairs], [tile.programs[column] for _, column in pairs]
    )
    for (row, column), answer in zip(pairs, answers, strict=True):
        scores[row, column, : len(answer.choice_means)] = answer.choice_means
    return scores


def read_recording(folder: Path) -> tuple[dict[str, Any], list[str], Arrays]:
    """All that was recorded: the metadata, ids of the questions, and the arrays of `measure` joined.

    Raises:
        TraceError: if tiles are missing.
    """
    meta = read_json(folder / _META)
    rows = range(-(-int(meta["count"]) // int(meta["piece"])))
    columns = range(-(-len(meta["programs"]) // int(meta["block"])))
    names = [[f"{column:03d}-{row:05d}.safetensors" for column in columns] for row in rows]
    missing = sum(not (folder / name).is_file() for row in names for name in row)
    if missing:
        raise TraceError(
            f"{folder} lacks {missing} of {len(rows) * len(columns)} files; run the same command until it is whole."
        )
    ids: list[str] = []
    pieces: list[Arrays] = []
    for row in names:
        blocks: list[Arrays] = []
        for name in row:
            about, arrays = read_shard(folder / name)
            asked = json.loads(about["questions"])
            blocks.append(arrays)
        ids += asked
        shared = {key: np.concatenate([block[key] for block in blocks], axis=1) for key in blocks[-1]}
        pieces.append(shared)
    return meta, ids, {key: np.concatenate([each[key] for each in pieces]) for key in pieces[0]}


def read_shard(path: Path) -> tuple[dict[str, str], Arrays]:
    """The metadata and the arrays of a file.

    Raises:
        TraceError: if it is cut short or changed.
    """
    try:
        with safe_open(path, framework="numpy") as shard:
            return shard.metadata() or {}, {key: shard.get_tensor(key) for key in shard.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise TraceError(f"{path} is cut short or changed: {error}. Delete it, and run the same command.") from error


def settings_of(world: LiveWorld, questions: Sequence[Question]) -> dict[str, Any]:
    """What says which LLM recorded which questions, as JSON gives it back."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": world.llm.name,
        "fingerprint": world.llm.fingerprint,
        "depth": world.depth,
        "dtype": world.llm.dtype_name,
        "device": world.llm.device.type,
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "prompts": world.prompts.model_dump(mode="json"),
        "questions": hashlib.sha256("\x1f".join(f"{q.id} {q.answer}" for q in questions).encode()).hexdigest()[:16],
    }


def _begin(
    world: LiveWorld, questions: Sequence[Question], programs: Sequence[Program], folder: Path, piece: int, block: int
) -> None:
    meta = settings_of(world, questions) | {
        "programs": [str(program) for program in programs],
        "count": len(questions),
        "piece": piece,
        "block": block,
    }
    path = folder / _META
    if path.is_file():
        _let_programs_grow(path, meta)
    keep_settings(path, meta, "a recording", "Delete it, or give another folder.")


def _let_programs_grow(path: Path, meta: dict[str, Any]) -> None:
    """Programs may come behind those that were recorded, where these fill whole tiles."""
    before = read_json(path)
    programs, recorded = meta["programs"], list(before.get("programs", []))
    fit = programs[: len(recorded)] == recorded and not len(recorded) % meta["block"]
    if fit and all(before.get(key) == value for key, value in meta.items() if key != "programs"):
        write_whole(path, json.dumps(meta, indent=2).encode())
