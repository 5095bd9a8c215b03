"""What `gymnasium.make` is given, as a world and its questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polar_env.errors import UnknownNameError
from polar_env.questions import SPLITS, Prompt, Prompts, Question, load_pool, make_prompt, without_examples
from polar_env.worlds import LiveWorld, RecordedWorld, World

__all__ = ["make_world"]


def make_world(
    model: Any,
    questions: str | Sequence[str] | Sequence[Question] | None,
    prompt: str | Prompt | Prompts,
    split: str | None,
) -> tuple[World, list[Question]]:
    """A world, and the questions of the episodes.

    Args:
        model: a world, a `FrozenLLM`, or whatever `load_llm` takes.
        questions: question specs, or questions; None takes those of a recorded world, or the mixture ``arithmetic``.
        prompt: prompts, or the name of one whose examples come from the train questions; a world has its own.
        split: which split of the specs to use; None is all of it.

    Raises:
        UnknownNameError: for a split, model, prompt or set of questions that does not exist.
    """
    from polar_env.llm import FrozenLLM, load_llm
    from polar_env.runner import Runner

    if split is not None and split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    if questions is None and isinstance(model, RecordedWorld):
        return model, [question for question in model.questions if split in (None, question.split)]
    questions = "arithmetic" if questions is None else questions
    specs = [questions] if isinstance(questions, str) else list(questions)
    texts = [spec for spec in specs if isinstance(spec, str)]
    given = [question for question in specs if isinstance(question, Question)]
    pool = list(load_pool(texts).questions) if texts else []
    loaded = given + [question for question in pool if split in (None, question.split)]
    if not isinstance(model, (str, FrozenLLM)) and hasattr(model, "verdicts"):
        return model, loaded
    if isinstance(prompt, str):
        prompt = make_prompt(prompt, [question for question in (pool or given) if question.split == "train"])
    loaded = without_examples(loaded, Prompts.for_all(prompt))
    llm = model if isinstance(model, FrozenLLM) else load_llm(str(model))
    return LiveWorld(Runner(llm), prompt), loaded
