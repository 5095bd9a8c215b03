"""The prompt under which the identity is best: every method is measured under it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eval.statistics import Estimate, share
from polar_env.llm import FrozenLLM
from polar_env.questions import Prompt, Question
from polar_env.runner import Runner
from polar_env.worlds import LiveWorld

__all__ = ["choose_prompt"]

_MEMORY = 1 << 29


def choose_prompt(
    llm: FrozenLLM,
    prompts: Sequence[Prompt],
    questions: Sequence[Question],
    on_prompt: Callable[[str, Estimate], None] = lambda _, __: None,
) -> tuple[Prompt, dict[str, Estimate]]:
    """Measure the identity under each prompt.

    Args:
        llm: the frozen LLM; chat prompts are left out where it has no chat template.
        prompts: the candidates.
        questions: train questions, none of which is a worked example.
        on_prompt: called with each prompt's name and the identity's share of right answers.

    Returns:
        The best prompt, and the identity's share of right answers under each, by name.

    Raises:
        QuestionTooLongError: if a question does not fit under one of them; nothing has run then.
    """
    usable = [prompt for prompt in prompts if llm.tokenizer.chat_template or not prompt.is_chat]
    runner = Runner(llm, memory_bytes=_MEMORY)
    worlds = [LiveWorld(runner, prompt) for prompt in usable]
    for world in worlds:
        world.check(questions)
    measured: dict[str, Estimate] = {}
    for prompt, world in zip(usable, worlds, strict=True):
        verdicts = world.verdicts([(question, llm.identity) for question in questions])
        measured[prompt.name] = share([verdict.right for verdict in verdicts])
        on_prompt(prompt.name, measured[prompt.name])
        runner.clear()  # no other prompt has use for its states
    return max(usable, key=lambda prompt: measured[prompt.name].value), measured
