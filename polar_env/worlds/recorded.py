"""The recorded world: shared programs were executed on many questions once; this table answers in the LLM's place.

A folder holds ``world.json`` (the card, with a checksum of each file), ``questions.parquet``, ``answers.parquet``,
``verdicts.safetensors``, ``states.safetensors`` and ``reduction.safetensors``. It needs neither torch nor transformers.

Letters: ``Q`` questions, ``P`` programs, ``S`` depths at which states are kept, ``K`` components of a state, ``C`` most
choices of a question, ``N`` pairs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from polar_env.errors import ConfigError, FingerprintError, QuestionError, UnknownNameError
from polar_env.program import Program
from polar_env.questions import SPLITS, Ask, Prompts, Question
from polar_env.runner.choosing import refuse_while_choosing
from polar_env.runner.stats import ExecutionStats
from polar_env.runner.verdict import Verdict
from polar_env.tables import read_json, sha256_of, write_whole
from polar_env.worlds.recorded_asks import SCHEMA_VERSION, RecordedAsks, WorldCard
from polar_env.worlds.reduction import Reduction
from polar_env.worlds.written import WRITTEN, WrittenAnswers

if TYPE_CHECKING:
    from polar_env.worlds.live import LiveWorld

__all__ = ["WORLDS", "RecordedWorld", "open_world", "world_folder", "write_world"]

CARD = "world.json"
WORLDS = (
    "skills-smollm2-135m-v0",
    "knowledge-smollm2-135m-v0",
    "words-smollm2-135m-v0",
    "skills-gemma3-270m-v0",
)
"""Worlds that ship with the package."""
_FILES = (
    "questions.parquet", "answers.parquet", "verdicts.safetensors", "states.safetensors", "reduction.safetensors", CARD,
)  # fmt: skip
_QUESTIONS = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),  # null where the licence does not allow to ship it
        ("task", pa.string()),
        ("equation", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("answer", pa.string()),
        ("verifier", pa.string()),
        ("split", pa.string()),
        ("difficulty", pa.string()),
        ("entry", pa.string()),  # JSON
    ]
)
Arrays = dict[str, NDArray[Any]]


class RecordedWorld(RecordedAsks):
    """Verdicts, confidences and states that an LLM gave once; see `World`. Agents get its ``asks``.

    Args:
        card: what the world says of itself.
        questions: the questions.
        arrays: ``right`` ``bool [Q, P]``; ``log_prob`` of the gold answer ``float16 [Q, P]``; ``own``, how sure the LLM
            is of the first token of its own answer, ``float16 [Q, P, 3]`` (see `AskWorld.confidences`); ``codes``,
            reduced states after prefixes of the identity, ``float16 [Q, S, 2 K]``; of multiple choice also ``choices``,
            the log-probability per token of each choice, ``float16 [Q, P, C]``.
        reduction: makes ``codes`` of a live world's states.
        answers: rows of `WRITTEN`; None where no answers were written down.

    Raises:
        ConfigError: if shapes do not fit together.
    """

    def __init__(
        self,
        card: WorldCard,
        questions: Sequence[Question],
        arrays: Arrays,
        reduction: Reduction,
        answers: pa.Table | None = None,
    ) -> None:
        asks = [question.ask for question in questions]
        self.answer_rows = WRITTEN.empty_table() if answers is None else answers
        """Rows of `WRITTEN`, with the verifier's verdicts."""
        written = WrittenAnswers(self.answer_rows)
        super().__init__(card, asks, arrays, reduction, written)
        self.questions, self.arrays = list(questions), arrays
        self.asks = RecordedAsks(card, asks, arrays, reduction, written)
        """What agents may use."""
        shape = len(self.questions), len(self.programs)
        shapes = {name: arrays[name].shape for name in ("right", "log_prob", "own", "codes")}
        expected = {
            "right": shape, "log_prob": shape, "own": (*shape, 3),
            "codes": (shape[0], len(card.depths), reduction.observed.size),
        }  # fmt: skip
        if shapes != expected or tuple(card.depths) != reduction.depths or self.programs[:1] != [self.identity]:
            raise ConfigError(
                f"the world '{card.name}' does not fit together: its arrays are {shapes}, expected are {expected}, the "
                f"identity as first program, and states after {card.depths}; its reduction has {reduction.depths}."
            )
        self.stats = ExecutionStats()

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the LLM that was recorded."""
        return self.card.fingerprint

    @property
    def prompts(self) -> Prompts:
        """The prompts that questions were asked under."""
        return self.card.prompts

    @cached_property
    def costs(self) -> NDArray[np.float64]:
        """Executed layers / D of each program, ``[P]``."""
        return np.array([program.cost(self.depth) for program in self.programs])

    @cached_property
    def tasks(self) -> NDArray[np.str_]:
        """The task of each question, ``[Q]``."""
        return np.array([question.task for question in self.questions])

    def rows(self, split: str) -> NDArray[np.intp]:
        """Rows of the questions of a split, or of several: ``train+validation``.

        Raises:
            UnknownNameError: if there is no such split.
        """
        names = split.split("+")
        for name in names:
            if name not in SPLITS:
                raise UnknownNameError("split", name, SPLITS)
        return np.flatnonzero([question.split in names for question in self.questions])

    def check(self, questions: Sequence[Question]) -> None:
        """Refuse questions that were not recorded."""
        for question in questions:
            self.row(question)

    def verdicts(self, pairs: Sequence[tuple[Question, Program]]) -> list[Verdict]:
        """The recorded verdicts; tokens of answers were not kept."""
        refuse_while_choosing(f"'{self.card.name}'")
        self.stats.verdicts += len(pairs)
        right, log_prob = self.arrays["right"], self.arrays["log_prob"]
        cells = [(self.row(question), self.column(program)) for question, program in pairs]
        return [Verdict(bool(right[cell]), float(log_prob[cell])) for cell in cells]

    def remembers(self, question: Question, program: Program) -> bool:
        """Whether it was recorded."""
        return question.id in self._rows and program in self._columns

    def text_of(self, tokens: Sequence[int]) -> str:
        """Tokens were not kept."""
        return ""

    def shuffled(self, seed: int = 0) -> RecordedWorld:
        """A control: states, confidences and scores of choices are shuffled among a split's questions, and no answers
        are kept, so that reading them cannot help.
        """
        order = np.arange(len(self.questions))
        rng = np.random.default_rng(seed)
        for split in SPLITS:
            rows = self.rows(split)
            order[rows] = rng.permutation(rows)
        card = self.card.model_copy(update={"name": f"{self.card.name}-control", "files": {}})
        shown = [name for name in ("codes", "own", "choices") if name in self.arrays]
        arrays = self.arrays | {name: self.arrays[name][order] for name in shown}
        return RecordedWorld(card, self.questions, arrays, self.reduction)

    def require_texts(self, purpose: str) -> None:
        """Refuse a world without texts.

        Raises:
            ConfigError: saying what texts are needed for.
        """
        if not self.card.texts:
            raise ConfigError(
                f"'{self.card.name}' holds no texts, which it takes to {purpose}. Record the world with its texts."
            )

    def require(self, live: LiveWorld) -> None:
        """Refuse a live world of another LLM, or one that would ask in other words.

        Raises:
            FingerprintError: for another LLM, another floating-point type than that of the states, or other prompts.
            ConfigError: if the questions' texts were left out.
        """
        self.require_texts("execute its questions")
        if live.llm.fingerprint != self.card.fingerprint:
            raise FingerprintError(
                f"'{self.card.name}' was recorded with '{self.card.model}' ({self.card.fingerprint}); this is "
                f"'{live.llm.name}' ({live.llm.fingerprint}). Load that model, or record a world of this one."
            )
        if live.prompts != self.card.prompts:
            raise FingerprintError(
                f"'{self.card.name}' was recorded under the prompt '{self.card.prompts.name}' with other examples than "
                f"this one ('{live.prompts.name}'); make the live world with recorded.prompts."
            )


def write_world(world: RecordedWorld, folder: Path, *, texts: bool = True) -> WorldCard:
    """Write a world; the card last, so that a folder with a card is whole.

    Args:
        world: the world.
        folder: where to.
        texts: whether the questions' texts may be shipped; without them questions are known by their ids, and no agent
            can be trained: nothing could keep twins of its questions out of an evaluation.

    Returns:
        The card as it was written.
    """
    rows = pa.Table.from_pylist([_record(question, texts) for question in world.questions], schema=_QUESTIONS)
    verdicts = {name: array for name, array in world.arrays.items() if name != "codes"}
    contents = {
        "questions.parquet": _parquet(rows),
        "answers.parquet": _parquet(world.answer_rows if texts else _without_texts(world.answer_rows)),
        "verdicts.safetensors": save(verdicts),
        "states.safetensors": save({"codes": world.arrays["codes"]}),
        "reduction.safetensors": save(world.reduction.arrays()),
    }
    for name, content in contents.items():
        write_whole(folder / name, content)
    card = world.card.model_copy(update={"files": {}, "texts": texts})
    files = {name: sha256_of(folder / name) for name in contents} | {CARD: _digest(card)}
    card = card.model_copy(update={"files": files})
    write_whole(folder / CARD, card.model_dump_json(indent=1).encode())
    return card


def open_world(name: str | Path) -> RecordedWorld:
    """Open a recorded world, every byte of it checked.

    Args:
        name: one of `WORLDS`, or a folder.

    Raises:
        UnknownNameError: if there is no such world.
        FingerprintError: if it is of another schema, or a file is missing, cut short or changed.
        ConfigError: if the card is damaged.
    """
    folder = world_folder(name)
    values = read_json(folder / CARD)
    if values.get("schema_version") != SCHEMA_VERSION:
        raise FingerprintError(
            f"{folder / CARD} is of schema {values.get('schema_version')}; this polar-env reads {SCHEMA_VERSION}. "
            "Record the world again, or install the version that wrote it."
        )
    card = WorldCard.of(values, str(folder / CARD))
    if sorted(card.files) != sorted(_FILES):
        raise FingerprintError(f"{folder / CARD} names the files {sorted(card.files)}; a world has {sorted(_FILES)}.")
    for file, expected in card.files.items():
        actual = _digest(card) if file == CARD else sha256_of(folder / file) if (folder / file).is_file() else None
        if actual != expected:
            raise FingerprintError(
                f"{folder / file} is missing, cut short or changed (its card says sha256 {expected[:16]}..). Put a "
                "copy of the whole file there, or record the world again."
            )
    try:
        questions = [_question(record) for record in _rows(folder / "questions.parquet").to_pylist()]
        arrays = load_file(folder / "verdicts.safetensors") | load_file(folder / "states.safetensors")
        reduction = Reduction.of(card.depths, load_file(folder / "reduction.safetensors"))
        answers = _rows(folder / "answers.parquet")
        return RecordedWorld(card, questions, arrays, reduction, answers)
    except (KeyError, SafetensorError, pa.ArrowException, QuestionError) as error:
        raise ConfigError(f"{folder} is no whole world: {error}. Record it again.") from error


def _digest(card: WorldCard) -> str:
    """The sha256 of a card without its checksums."""
    return hashlib.sha256(card.model_copy(update={"files": {}}).model_dump_json().encode()).hexdigest()


def _rows(path: Path) -> pa.Table:
    """A Parquet file; ``read_table`` would import pandas, which takes a second."""
    return pq.ParquetFile(path).read()


def _parquet(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _without_texts(rows: pa.Table) -> pa.Table:
    """Written answers without what was written."""
    for name in ("text", "tokens"):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), pa.nulls(len(rows), rows.schema.field(at).type))
    return rows


def world_folder(name: str | Path) -> Path:
    """Where a world lies.

    Args:
        name: one of `WORLDS`, or a folder.

    Raises:
        UnknownNameError: if there is no world.
    """
    folder = Path(name)
    if str(name) in WORLDS:
        folder = Path(str(resources.files("polar_env.worlds") / "data" / str(name)))
    if not (folder / CARD).is_file():
        raise UnknownNameError("recorded world", str(name), WORLDS, f"Or give a folder with a {CARD}.")
    return folder


def _record(question: Question, texts: bool) -> dict[str, Any]:
    ask = question.ask
    return {
        "id": ask.id,
        "text": ask.text if texts else None,
        "task": ask.task,
        "equation": ask.equation if texts else None,
        "choices": list(ask.choices) if texts else [],
        "answer": question.answer if texts else "withheld",
        "verifier": question.verifier,
        "split": question.split,
        "difficulty": question.difficulty,
        "entry": None if question.entry is None or not texts else json.dumps(question.entry),
    }


def _question(record: Mapping[str, Any]) -> Question:
    text = record["text"] or f"question {record['id']} (its licence keeps the text)"
    ask = Ask(text, record["task"], record["equation"], tuple(record["choices"]))
    ask.__dict__["id"] = record["id"]  # the id of its text, also where the text is kept back
    return Question(
        ask, record["answer"], record["verifier"], record["split"], record["difficulty"],
        json.loads(record["entry"]) if record["entry"] else None,
    )  # fmt: skip
