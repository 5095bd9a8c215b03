"""What makes a number worthless: test questions that an agent was trained or chosen on, or that a prompt shows."""

from __future__ import annotations

from collections.abc import Sequence

from agents.card import AgentCard
from polar_env.errors import LeakError
from polar_env.questions import Prompts, Question, near_hash, near_twins, twin_hash, without_examples

__all__ = ["refuse_leaks"]


def refuse_leaks(questions: Sequence[Question], cards: Sequence[AgentCard], prompts: Prompts) -> None:
    """Refuse questions, and twins of questions, that an agent was trained or chosen on, or that a prompt shows.

    Raises:
        LeakError: saying how many, and an example.
    """
    kept = {question.id for question in without_examples(questions, prompts)}
    shown = [question.text for question in questions if question.id not in kept]
    if shown:
        raise LeakError(
            f"{len(shown)} of {len(questions)} questions are worked examples of the prompt '{prompts.name}', or twins "
            f"of them, e.g. {shown[0]!r}. Leave them out with polar_env.questions.without_examples, or give another "
            "prompt."
        )
    prose = [near_hash(question.ask) if question.entry is None else None for question in questions]
    for card in cards:
        for split, hashes in (("train", card.train_asks), ("validation", card.validation_asks)):
            used = set(hashes)
            leaked = [question.text for question in questions if twin_hash(question.ask) in used]
            if leaked:
                raise LeakError(
                    f"{len(leaked)} of {len(questions)} questions are {split} questions of the agent '{card.name}', or "
                    f"twins of them, e.g. {leaked[0]!r}. Evaluate on the test split (--split test) or on other "
                    "questions."
                )
        near = near_twins(prose, card.prose_asks)
        reworded = [question.text for question, is_near in zip(questions, near, strict=True) if is_near]
        if reworded:
            raise LeakError(
                f"{len(reworded)} of {len(questions)} questions are train or validation questions of the agent "
                f"'{card.name}' in other words, e.g. {reworded[0]!r}. Evaluate on other questions."
            )
