"""``polar run "What is 17 + 25?"``: one question, the agent's program beside the identity's answer."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field

from agents.base import Responder
from polar_env.cli.bars import console
from polar_env.cli.flags import QuestionsConfig, with_model
from polar_env.cli.opening import open_prompts, open_world
from polar_env.errors import ConfigError
from polar_env.program import Program
from polar_env.questions import Ask

if TYPE_CHECKING:
    from polar_env.worlds import LiveWorld

__all__ = ["CONFIG", "EXAMPLES", "RunConfig", "run"]


class RunConfig(QuestionsConfig):
    """Answer one question with a trained agent."""

    question: Annotated[str, tyro.conf.Positional] = ""
    """The question."""
    task: str = "questions"
    """The task that it belongs to, where tasks have prompts of their own."""
    choice: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A choice to answer with, repeatable."""
    agent: str = "runs/quickstart/agents/ppo"
    """identity, random, static:PROGRAM, or the folder of a saved agent."""
    max_new_tokens: Annotated[int, Field(ge=1)] = 32
    """Most tokens of an answer."""


CONFIG = RunConfig
EXAMPLES = ('polar run "What is 29 + 39?" --agent skills', 'polar run "What is 29 + 39?" --agent "static:0-12 14-29"')


def run(config: RunConfig) -> dict[str, Any]:
    """Ask the agent for a program, and generate under it and under the identity."""
    from agents.card import read_card
    from agents.registry import find_agent, load_agent

    if not config.question.strip():
        raise ConfigError('there is no question; write e.g. polar run "What is 17 + 25?".')
    folder = find_agent(config.agent)
    card = None if folder is None else read_card(folder)
    prompts = card.prompts if card is not None and not config.prompt else open_prompts(config)
    config = with_model(config, card.model, card.dtype) if card is not None else config
    world = open_world(config, prompts)
    agent = load_agent(config.agent, world, config.seed)
    ask = Ask.typed(config.question, config.task, config.choice)
    if isinstance(agent, Responder):
        return _respond(config, world, agent, ask)
    started = time.perf_counter()
    program = agent.decide([ask])[0].program
    decided = time.perf_counter() - started
    answers = {
        name: _answer(config, world, ask, name, used)
        for name, used in ((agent.name, program), ("identity", world.identity))
    }
    console.print(f"{agent.name} chose its program in {1000 * decided:.0f} ms", markup=False)
    return {"question": ask.text, "agent": agent.name, "program": str(program), "answers": answers}


def _respond(config: RunConfig, world: LiveWorld, agent: Responder, ask: Ask) -> dict[str, Any]:
    """The answer of a method that runs several programs, beside the identity's."""
    started = time.perf_counter()
    response = agent.respond([ask])[0]
    seconds = time.perf_counter() - started
    program = str(response.answered_by)
    stream = sys.stderr if config.json_output else sys.stdout
    print(
        f"{agent.name}: {response.answer.text}   [{1000 * seconds:.0f} ms, {len(response.programs)} runs]", file=stream
    )
    answers = {
        agent.name: {"program": program, "layers": sum(map(len, response.programs)), "text": response.answer.text,
                     "seconds": seconds},
        "identity": _answer(config, world, ask, "identity", world.identity),
    }  # fmt: skip
    return {"question": ask.text, "agent": agent.name, "program": program, "answers": answers}


def _answer(config: RunConfig, world: LiveWorld, ask: Ask, name: str, program: Program) -> dict[str, Any]:
    """Generate under a program; the text appears token by token."""
    from polar_env.envs.rendering import layer_glyphs
    from polar_env.runner import Decoding

    stream = sys.stderr if config.json_output else sys.stdout
    glyphs = layer_glyphs(program.layers, world.depth)
    print(f"{name:<10} |{glyphs}| {program} ({len(program)} layers)\n{'':<10} ", end="", file=stream)

    def show(_: int, piece: str) -> None:
        print(piece, end="", flush=True, file=stream)

    written = world.generate([ask], program, Decoding(config.max_new_tokens), show)[0]
    seconds = written.prefill_seconds + written.decode_seconds
    print(f"   [{1000 * seconds:.0f} ms, {len(written.tokens)} tokens]", file=stream)
    return {"program": str(program), "layers": len(program), "text": written.text.strip(), "seconds": seconds}
