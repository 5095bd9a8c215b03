"""``polar prompt``: the identity program's best prompt, chosen on train questions and recorded for every method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import tyro

from polar_env.cli.bars import console
from polar_env.cli.flags import PROMPT_FILE, QuestionsConfig
from polar_env.cli.opening import open_llm, open_pool, open_questions
from polar_env.questions import Prompts, make_prompt, write_prompts

if TYPE_CHECKING:
    from eval.statistics import Estimate

__all__ = ["CONFIG", "PromptConfig", "run"]


class PromptConfig(QuestionsConfig):
    """Choose the prompt under which the identity program is best on train questions."""

    candidates: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Prompts to compare, repeatable; by default all styles with 0 and 6 examples."""
    limit: int = 120
    """Train questions to measure each prompt on, tasks taking turns."""


CONFIG = PromptConfig
DEFAULT_CANDIDATES = ("qa-0", "qa-6", "bare-0", "bare-6", "chat-0", "chat-6", "restate-0", "restate-6")


def run(config: PromptConfig) -> dict[str, Any]:
    """Measure the identity program under each candidate and record the best in ``OUT/prompt.yaml``."""
    from eval.prompts import choose_prompt

    pool = open_pool(config).split("train")
    prompts = [make_prompt(name, pool) for name in config.candidates or DEFAULT_CANDIDATES]
    longest = max(prompts, key=lambda prompt: len(prompt.examples))
    questions = open_questions(config, "train", without=Prompts.for_all(longest))
    llm = open_llm(config.model_name, config.dtype_name, config.device)

    def show(name: str, estimate: Estimate) -> None:
        console.print(f"prompt {name:<10} identity {estimate.percent()} %", markup=False)

    best, measured = choose_prompt(llm, prompts, questions, show)
    path = config.out / PROMPT_FILE
    write_prompts(Prompts.for_all(best), path)
    console.print(f"best prompt: {best.name}, on {len(questions)} train questions; recorded in {path}", markup=False)
    return {
        "prompt": best.name,
        "path": str(path),
        "questions": len(questions),
        "measured": {name: vars(estimate) for name, estimate in measured.items()},
    }
