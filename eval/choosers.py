"""Agents inside other harnesses: they choose one program for a question, the harness puts the question its own way."""

from __future__ import annotations

from agents.base import Agent, Responder
from agents.card import read_card
from agents.registry import find_agent, load_agent
from polar_env.errors import ConfigError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Prompt, Prompts
from polar_env.runner import Runner
from polar_env.worlds import LiveWorld

__all__ = ["program_or_agent"]


def program_or_agent(llm: FrozenLLM, program: str, agent: str) -> tuple[Program, Agent | None]:
    """The program of all documents, and the agent that chooses another one for each; None without an agent.

    Args:
        llm: executes.
        program: text of a program; empty is the identity.
        agent: the folder of a saved agent, or an agent's name; it reads questions under its own prompt. Empty is none.

    Raises:
        ConfigError: for a program and an agent at once, or an agent that answers out of several runs.
        ProgramError: for a program that does not fit the model.
        UnknownNameError: for an agent that does not exist, or a folder of several.
        FingerprintError: for an agent of another model.
    """
    if program and agent:
        raise ConfigError("give a program or an agent, not both.")
    if not agent:
        return (Program.parse(program, llm.depth) if program else llm.identity), None
    folder = find_agent(agent)
    prompts = Prompts.for_all(Prompt(style="qa")) if folder is None else read_card(folder).prompts
    chooses = load_agent(agent, LiveWorld(Runner(llm), prompts))
    if isinstance(chooses, Responder):
        raise ConfigError(f"'{agent}' answers out of several runs; a harness wants one program for a question.")
    return llm.identity, chooses
