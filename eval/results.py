"""Results on disk: one row for each method and question, appended while running, in Parquet of a versioned schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from eval.methods import Method
from polar_env.errors import ConfigError, FingerprintError
from polar_env.questions import Question
from polar_env.tables import ShardedTable, keep_settings, read_json
from polar_env.worlds import LiveWorld

__all__ = ["PROTOCOL_VERSION", "Results"]

PROTOCOL_VERSION = 2
"""Counts the changes of what a row means; results of another version are not compared."""
_META = "results.json"
_SCHEMA = pa.schema(
    [
        ("method_id", pa.string()),
        ("method", pa.string()),  # the name that is shown
        ("question_id", pa.string()),
        ("task", pa.string()),
        ("text", pa.string()),
        ("gold", pa.string()),
        ("answer", pa.string()),  # what the method answered
        ("right", pa.bool_()),  # by the question's verifier on the answer; of a choice, whether it is the gold one
        ("right_in_any_form", pa.bool_()),  # of the identity: the same, leniently
        ("forced", pa.bool_()),  # the teacher-forced verdict, where it was asked for
        ("program", pa.string()),  # the first program executed
        ("programs", pa.int32()),  # how many were; for the oracle, tried
        ("layers", pa.int32()),  # of all programs, and those executed only to decide
        ("cost", pa.float32()),  # the same divided by D
        ("log_prob", pa.float32()),  # of the answer
        ("confidence", pa.float32()),
        ("flops", pa.float64()),  # of LLM and agent, the worked examples left out
        ("agent_flops", pa.float64()),
    ]
)


class Results(ShardedTable):
    """A folder of results of one model, prompt and set of questions.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _SCHEMA)

    @classmethod
    def open(cls, folder: Path) -> Results:
        """Results that lie in a folder, or in the ``results`` or ``eval/results`` of a run there.

        Raises:
            ConfigError: if there are none.
            FingerprintError: if they are of another version of the protocol.
        """
        places = [folder, folder / "results", folder / "eval" / "results"]
        place = next((place for place in places if (place / _META).is_file()), None)
        if place is None:
            raise ConfigError(f"{folder} holds no results; `polar eval --out {folder}` makes them.")
        results = cls(place)
        _require_version(results.meta, results.folder)
        return results

    def begin(
        self, world: LiveWorld, questions: Sequence[Question], methods: Sequence[Method], config: dict[str, Any]
    ) -> None:
        """Start, or go on where an interrupted evaluation of the same things stopped.

        Raises:
            FingerprintError: if results lie here of another model, prompt, set of questions or settings, from another
                device, of another version of the protocol, or made with other versions of torch or transformers.
            ConfigError: if the file that says so is damaged.
        """
        meta = {
            "protocol_version": PROTOCOL_VERSION,
            "model": world.llm.name,
            "fingerprint": world.llm.fingerprint,
            "depth": world.depth,
            "dtype": world.llm.dtype_name,
            "device": world.llm.device.type,
            "versions": {name: version(name) for name in ("torch", "transformers", "polar-env")},
            "prompts": world.prompts.model_dump(mode="json"),
            "questions": [question.id for question in questions],
            "answers": hashlib.sha256("\x1f".join(question.answer for question in questions).encode()).hexdigest()[:16],
            "methods": {method.id: _about(method) for method in methods},
            "remarks": {method.name: method.remark for method in methods if method.remark},
            "config": config,
        }
        path = self.folder / _META
        if path.exists():
            _require_version(self.meta, self.folder)
        keep_settings(path, meta, "results of an evaluation", "Delete the folder, or give another --out.")

    @property
    def meta(self) -> dict[str, Any]:
        """What was evaluated, and how."""
        return read_json(self.folder / _META)

    def roles(self) -> dict[str, str]:
        """The role of each method, by name, in the order of the table."""
        return {method["name"]: method["role"] for method in self.meta["methods"].values()}

    def families(self) -> dict[str, list[str]]:
        """Names of the learned agents that differ in nothing but the seed, by what their cards call them."""
        families: dict[str, dict[int, str]] = {}
        for method in self.meta["methods"].values():
            if method["role"] == "agent" and method["family"]:
                families.setdefault(method["family"], {}).setdefault(method["chosen_on"]["seed"], method["name"])
        several = {family: list(by_seed.values()) for family, by_seed in families.items() if len(by_seed) > 1}
        names = [family.rsplit(" ", 1)[0] for family in several]  # the hash behind it is shown where names clash
        return {
            name if names.count(name) == 1 else family: members
            for name, (family, members) in zip(names, several.items(), strict=True)
        }

    def chosen_on(self, name: str) -> dict[str, Any] | None:
        """What a method was trained and chosen on, as its card says; None without a card."""
        chosen: dict[str, dict[str, Any] | None] = {
            each["name"]: each["chosen_on"] for each in self.meta["methods"].values()
        }
        return chosen[name]

    def rows(self) -> pd.DataFrame:
        """All rows, in the order in which they were written.

        Raises:
            TraceError: if a shard is damaged.
        """
        return self.table().to_pandas()

    def measured(self, method: Method) -> set[str]:
        """Ids of the questions that a method was measured on."""
        batches = (
            batch.filter(pc.field("method_id") == method.id) for batch in self.batches(["method_id", "question_id"])
        )
        return {question_id for batch in batches for question_id in batch["question_id"].to_pylist()}


def _about(method: Method) -> dict[str, Any]:
    """What a report may say of a method, its card included, without the hashes of its questions."""
    about = {"name": method.name, "role": method.role, "limit": method.limit}
    card = method.card
    if card is None:
        return about | {"card": None, "weights": None, "family": None, "chosen_on": None}
    same_but_seed = {"config": card.config | {"seed": None}, "train_asks": card.train_asks}
    chosen_on = {
        "tasks": card.tasks,
        "questions": card.questions,
        "train_asks": len(card.train_asks),
        "validation_asks": len(card.validation_asks),
        "seed": card.seed,
        "versions": card.versions,
        "results": card.results,
    }
    family = f"{card.name} {hashlib.sha256(json.dumps(same_but_seed, sort_keys=True).encode()).hexdigest()[:6]}"
    return about | {"card": card.digest, "weights": card.weights, "family": family, "chosen_on": chosen_on}


def _require_version(meta: dict[str, Any], folder: Path) -> None:
    written = meta.get("protocol_version")
    if written != PROTOCOL_VERSION:
        raise FingerprintError(
            f"{folder} holds results of version {written} of the protocol; this polar-env writes and reads "
            f"{PROTOCOL_VERSION}. Evaluate again with another --out."
        )
