"""Agents by name or folder."""

from __future__ import annotations

from pathlib import Path

from agents.base import Agent
from agents.fixed import RandomAgent, StaticAgent
from polar_env.errors import UnknownNameError
from polar_env.executor import Executor
from polar_env.program import Program

__all__ = ["NAMES", "find_agents", "load_agent"]

NAMES = ("identity", "random", "static:PROGRAM")


def find_agents(name: str) -> list[Path]:
    """The agent folders at a path: itself, or those of a run (``DIR/agents/*``), imitation before PPO."""
    folder = Path(name).expanduser()
    candidates = [folder, *sorted(folder.glob("agents/*")), *sorted(folder.glob("*"))]
    found = [candidate for candidate in candidates if (candidate / "agent.json").is_file()]
    return found[:1] if found[:1] == [folder] else list(dict.fromkeys(found))


def load_agent(name: str, executor: Executor, seed: int = 0) -> Agent:
    """Load an agent.

    Args:
        name: ``identity``, ``random``, ``static:PROGRAM``, or the folder of a saved agent.
        executor: what it runs on.
        seed: of random agents.

    Raises:
        UnknownNameError: for a name that is none of these.
        FingerprintError: for a saved agent of another model or prompt.
        ProgramError: for a static program that does not fit the model.
    """
    if name == "identity":
        return StaticAgent(executor.llm.identity, "identity")
    if name == "random":
        return RandomAgent(executor.depth, seed)
    if name.startswith("static:"):
        program = Program.parse(name.removeprefix("static:"), executor.depth)
        return StaticAgent(program, f"static {program}")
    folders = find_agents(name)
    if len(folders) != 1:
        hint = "Or give the folder of a saved agent, e.g. runs/quickstart/agents/ppo."
        if folders:
            hint = f"The folder holds several agents: {', '.join(map(str, folders))}."
        raise UnknownNameError("agent", name, NAMES, hint)
    from agents.policy import load_policy

    return load_policy(folders[0], executor)
