"""``polar prompt``: the identity program's best prompt, chosen on train questions and recorded for every method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field

from polar_env.cli.bars import console
from polar_env.cli.estimate import Work
from polar_env.cli.flags import PROMPT_FILE, QuestionsConfig
from polar_env.cli.opening import example_pool, open_llm, open_pool, open_questions, open_world
from polar_env.questions import make_prompts, write_prompts

if TYPE_CHECKING:
    from eval.prompts import PromptChoice
    from eval.statistics import Estimate

__all__ = ["CONFIG", "EXAMPLES", "PromptConfig", "run"]


class PromptConfig(QuestionsConfig):
    """Choose the prompt under which the identity program is best on train questions."""

    candidates: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Prompts to compare, repeatable; by default all styles with 0 and 6 examples."""
    per_task: bool = False
    """Choose for each task by itself, with worked examples of that task."""
    limit: Annotated[int, Field(ge=0)] = 300
    """Train questions to measure each prompt on, tasks taking turns; with --per-task, of each task; 0 uses all."""


CONFIG = PromptConfig
EXAMPLES = ("polar prompt --questions arithmetic --limit 100 --out runs/mine",)
DEFAULT_CANDIDATES = ("qa-0", "qa-6", "bare-0", "bare-6", "chat-0", "chat-6", "restate-0", "restate-6")


def work(config: PromptConfig) -> Work:
    """The identity under each prompt; prompts share nothing, so a verdict takes as long as an answer."""
    questions, names = open_pool(config).split("train"), config.candidates or DEFAULT_CANDIDATES
    tasks = len({question.task for question in questions}) if config.per_task else 1
    asked = min(config.limit * tasks or len(questions), len(questions))
    world = open_world(config, make_prompts(plain_candidate(names), example_pool(config)))
    return Work(answers=asked * len(names), world=world, questions=questions)


def plain_candidate(names: Sequence[str]) -> str:
    """The first prompt that an LLM without a chat template takes, too."""
    return next((name for name in names if name.startswith(("qa", "bare"))), names[0])


def run(config: PromptConfig) -> dict[str, Any]:
    """Measure the identity program under each candidate and record the best in ``OUT/prompt.yaml``."""
    from eval.prompts import choose_prompts, write_choices

    pool = example_pool(config)
    names = config.candidates or DEFAULT_CANDIDATES
    lengths = open_pool(config).answer_tokens
    candidates = {name: make_prompts(name, pool, per_task=config.per_task).with_lengths(lengths) for name in names}
    longest = max(candidates.values(), key=lambda prompts: len(prompts.examples))
    tasks = {question.task for question in open_pool(config).split("train")}
    limit = config.limit * len(tasks) if config.per_task else config.limit
    questions = open_questions(config.model_copy(update={"limit": limit}), "train", without=longest)
    llm = open_llm(config.model_name, config.dtype_name, config.device)

    def show(name: str, estimate: Estimate) -> None:
        console.print(f"prompt {name:<10} identity {estimate.percent()} %", markup=False)

    best, choices = choose_prompts(llm, candidates, questions, per_task=config.per_task, on_prompt=show)
    path = config.out / PROMPT_FILE
    write_prompts(best, path)
    write_choices(config.out, choices)
    for choice in choices:
        console.print(_sentence(choice), markup=False)
    console.print(f"best prompt: {best.name}; recorded in {path}", markup=False)
    return {
        "prompt": best.name,
        "path": str(path),
        "questions": len(questions),
        "measured": {name: asdict(estimate) for name, estimate in choices[0].shares.items()},
        "choices": [asdict(choice) for choice in choices],
    }


def _sentence(choice: PromptChoice) -> str:
    """A choice in words."""
    from eval.prompts import MEASURED

    few = f" (fewer than {MEASURED})" if choice.questions < MEASURED else ""
    ties = f"; these questions cannot tell it from {', '.join(choice.ties)}" if choice.ties else ""
    return (
        f"{choice.task}: {choice.best}, on {choice.questions} questions{few}{ties}. Choosing on half of them loses "
        f"{100 * choice.loss:.1f} points on the other half."
    )
