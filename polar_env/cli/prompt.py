"""``polar prompt``: the identity program's best prompt, chosen on train questions and recorded for every method."""

from __future__ import annotations

from typing import Annotated, Any

import tyro

from polar_env.cli.common import PROMPT_FILE, QuestionsConfig, console, open_llm, open_questions
from polar_env.executor import Executor
from polar_env.questions import load_questions, make_prompt, write_prompt

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
    from eval.statistics import share

    skipped: list[str] | None = [] if config.skip_bad else None
    pool = load_questions(config.specs, "train", skipped=skipped)
    prompts = [make_prompt(name, pool) for name in config.candidates or DEFAULT_CANDIDATES]
    longest = max(prompts, key=lambda prompt: len(prompt.examples))
    questions = open_questions(config, "train", without=longest)
    llm = open_llm(config.model, config.dtype, config.device)
    prompts = [p for p in prompts if llm.tokenizer.chat_template or not p.is_chat]
    measured = {}
    executors = [Executor(llm, prompt, memory_bytes=1 << 28) for prompt in prompts]
    for executor in executors:  # a question that does not fit is refused before anything runs
        executor.check(questions)
    for prompt, executor in zip(prompts, executors, strict=True):
        verdicts = executor.verdicts([(question, llm.identity) for question in questions])
        executor.clear()  # no other prompt has use for its states
        measured[prompt.name] = share([verdict.right for verdict in verdicts])
        console.print(f"prompt {prompt.name:<10} identity {measured[prompt.name].percent()} %", markup=False)
    best = max(prompts, key=lambda prompt: measured[prompt.name].value)
    path = config.out / PROMPT_FILE
    write_prompt(best, path)
    console.print(f"best prompt: {best.name}, on {len(questions)} train questions; recorded in {path}", markup=False)
    return {
        "prompt": best.name,
        "path": str(path),
        "questions": len(questions),
        "measured": {name: vars(estimate) for name, estimate in measured.items()},
    }
