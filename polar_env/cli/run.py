"""``polar run "What is 17 + 25?"``: one question, the agent's program beside the identity's answer."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import tyro
from pydantic import Field

from agents.load import find_agents, load_agent
from agents.policy import read_card
from polar_env.answering import answer
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
    config = with_model(config, cards[0].model, cards[0].dtype) if cards else config
    executor = open_executor(config, prompt)
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
    stream = sys.stderr if config.json_output else sys.stdout
    glyphs = layer_glyphs(program.layers, executor.depth)
    print(f"{name:<10} |{glyphs}| {program} ({len(program)} layers)\n{'':<10} ", end="", file=stream)

    def show(_: int, piece: str) -> None:
        print(piece, end="", flush=True, file=stream)

    written = answer(executor, [question], program, config.max_new_tokens, show)[0]
    seconds = written.prefill_seconds + written.decode_seconds
    print(f"   [{1000 * seconds:.0f} ms, {len(written.tokens)} tokens]", file=stream)
    return {"program": str(program), "layers": len(program), "text": written.text.strip(), "seconds": seconds}
