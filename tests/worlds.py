"""Live worlds for tests, in one line."""

from __future__ import annotations

from typing import Any

from polar_env.llm import FrozenLLM
from polar_env.questions import Prompt, Prompts, Question
from polar_env.runner import Runner
from polar_env.runner.encoding import EncodedQuestion
from polar_env.worlds import LiveWorld


def world_of(llm: FrozenLLM, prompts: Prompt | Prompts, **runner: Any) -> LiveWorld:
    """A live world of a runner of its own; ``runner`` are further arguments of that."""
    return LiveWorld(Runner(llm, **runner), prompts)


def encoded_by(world: LiveWorld, question: Question) -> EncodedQuestion:
    """A question's token ids in a world."""
    return world.runner.encode(question, world.prompts[question.task])
