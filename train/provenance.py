"""What the card of a trained agent says of where it comes from: its world, the questions it saw, static programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agents.card import AgentCard, library_versions
from polar_env.config import Config
from polar_env.questions import Question, near_hash, twin_hash
from polar_env.worlds import RecordedWorld
from train.static import StaticChoice

__all__ = ["asks_seen", "card_from_world", "static_results"]


def asks_seen(train: Sequence[Question], validation: Sequence[Question]) -> dict[str, Any]:
    """The fields of an `AgentCard` by which an evaluation knows questions that were trained or chosen on, and twins.

    Of prose also hashes of near-duplicates; what a procedure fills into one template is near to one another, and no
    twins.
    """
    near = [near_hash(question.ask) for question in (*train, *validation) if question.entry is None]
    return {
        "train_asks": list(dict.fromkeys(twin_hash(question.ask) for question in train)),
        "validation_asks": [twin_hash(question.ask) for question in validation],
        "prose_asks": list(dict.fromkeys(each for each in near if each is not None)),
    }


def static_results(static: StaticChoice) -> dict[str, Any]:
    """What a card's ``results`` say of the best static programs."""
    return {
        "best-static": str(static.program),
        "best-static-per-task": {task: str(program) for task, program in static.by_task.items()},
        "static_gain_on_train": static.train_gain,
        "static_gain_on_validation": static.validation_gain,
        "static_questions": static.questions,
    }


def card_from_world(
    world: RecordedWorld, kind: str, config: Config, seed: int, static: StaticChoice, results: dict[str, Any]
) -> AgentCard:
    """The card of an agent that learned from the train and validation questions of a recorded world.

    Args:
        world: the world; it holds texts.
        kind: kind and name of the agent.
        config: the settings of the training; what the agent itself needs is added by the caller.
        seed: of the training.
        static: the best static programs.
        results: what the training measured.
    """
    train, validation = ([world.questions[row] for row in world.rows(split)] for split in ("train", "validation"))
    of = world.card
    return AgentCard(
        kind=kind,
        name=kind,
        model=of.model,
        dtype=of.dtype,
        fingerprint=of.fingerprint,
        depth=of.depth,
        prompts=of.prompts,
        tasks=sorted({question.task for question in train}),
        questions=of.sources,
        **asks_seen(train, validation),
        seed=seed,
        versions=library_versions(),
        config={"world": of.name, "files": of.files, **config.model_dump(mode="json")},
        results={**static_results(static), **results},
    )
