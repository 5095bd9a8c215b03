"""``polar run "What is 17 + 25?"``: one question, the agent's program beside the identity's answer."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import tyro
from pydantic import Field

from agents.load import find_agents, load_agent
from agents.policy import read_card
from polar_env.cli.common import QuestionsConfig, console, open_executor, open_prompt, with_model
from polar_env.envs.rendering import layer_glyphs
from polar_env.errors import ConfigError
from polar_env.executor import Executor
from polar_env.program import Program
from polar_env.questions import Question

__all__ = ["CONFIG", "RunConfig", "run"]


class RunConfig(QuestionsConfig):
    """Answer one question with a trained agent."""

    question: Annotated[str, tyro.conf.Positional] = ""
    """The question."""
    agent: str = "runs/quickstart/agents/ppo"
    """identity, random, static:PROGRAM, or the folder of a saved agent."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 32
    """Most tokens of an answer."""


CONFIG = RunConfig


def run(config: RunConfig) -> dict[str, Any]:
    """Ask the agent for a program, and generate under it and under the identity."""
    if not config.question.strip():
        raise ConfigError('there is no question; write e.g. polar run "What is 17 + 25?".')
    saved = find_agents(config.agent)
    cards = [read_card(folder) for folder in saved[:1]]
    prompt = cards[0].prompt if cards and not config.prompt else open_prompt(config)
    executor = open_executor(with_model(config, cards), prompt)
    agent = load_agent(config.agent, executor, config.seed)
    question = Question.ask(config.question)
    executor.check([question])
    started = time.perf_counter()
    program = agent.propose([question])[0][0]
    chosen = time.perf_counter() - started
    answers = {}
    for name, used in (("identity", executor.llm.identity), (agent.name, program)):
        answers[name] = _answer(config, executor, question, name, used)
    console.print(f"{agent.name} chose its program in {1000 * chosen:.0f} ms", markup=False)
    return {"question": question.text, "agent": agent.name, "program": str(program), "answers": answers}


def _answer(config: RunConfig, executor: Executor, question: Question, name: str, program: Program) -> dict[str, Any]:
    """Generate under a program; the text appears token by token."""
    llm, stream = executor.llm, sys.stderr if config.json_output else sys.stdout
    rendered = executor.prompt.render(llm.tokenizer, question.text, question.bare)
    print(f"{name:<10} |{layer_glyphs(program.layers, llm.depth)}| {program} ({len(program)} layers)", file=stream)
    print(f"{'':<10} ", end="", file=stream)
    shown = ""

    def text_of(tokens: list[int]) -> str:
        return str(llm.tokenizer.decode(tokens, skip_special_tokens=True)).split(rendered.end)[0]

    made: list[int] = []

    def show(token: int) -> None:
        nonlocal shown
        made.append(token)
        text = text_of(made)
        print(text[len(shown) :], end="", flush=True, file=stream)
        shown = text

    def ends(tokens: list[int]) -> bool:
        return rendered.end in llm.tokenizer.decode(tokens)

    started = time.perf_counter()
    prompt = executor.encoder.prompt_ids(question.text, question.bare)
    tokens = llm.generate(prompt, program, config.max_new_tokens, stop=ends, on_token=show)
    seconds = time.perf_counter() - started
    print(f"   [{1000 * seconds:.0f} ms, {len(tokens)} tokens]", file=stream)
    return {"program": str(program), "layers": len(program), "text": text_of(tokens).strip(), "seconds": seconds}
