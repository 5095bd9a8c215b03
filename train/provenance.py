"""What the card of a trained agent says of where it comes from: the questions that it saw, its static programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polar_env.questions import Question, near_hash, twin_hash
from train.static import StaticChoice

__all__ = ["asks_seen", "static_results"]


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
