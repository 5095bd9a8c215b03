"""What is measured: agents, static programs, baselines and the oracle, each with an identity of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from agents.base import Agent, Responder
from agents.card import CARD, WARM_START, AgentCard, read_card
from agents.early_exit import EarlyExitAgent
from agents.ensemble import EnsembleAgent
from agents.fixed import RandomAgent, StaticAgent, TaskStaticAgent
from agents.registry import find_agents, load_agent
from agents.sampling import SamplingAgent
from agents.search.config import MctsConfig
from polar_env.program import Program
from polar_env.worlds import LiveWorld

__all__ = [
    "BEST_STATIC",
    "BEST_STATIC_PER_TASK",
    "IDENTITY",
    "ORACLE",
    "Method",
    "Role",
    "method_of",
    "methods_of",
    "oracle_method",
    "with_distinct_names",
]

IDENTITY, BEST_STATIC, BEST_STATIC_PER_TASK = "identity", "best-static", "best-static-per-task"
"""Names of what every report compares with."""
ORACLE = "oracle"
"""Name of the search that sees the gold answer: an upper bound, never a result."""
Role = Literal["agent", "static", "baseline", "oracle"]
"""A learned agent, one program for all questions, what else stands beside it, or the upper bound."""


@dataclass(frozen=True)
class Method:
    """What is measured.

    Attributes:
        id: its identity: the hash of its card, its program or its settings.
        name: shown in reports.
        agent: decides or answers; None for the oracle.
        role: what it is in a comparison.
        remark: what its row must say beside the name.
        chosen_step: the step of training at which validation questions chose its policy; None for what was not trained.
    """

    id: str
    name: str
    agent: Agent | Responder | None = None
    role: Role = "agent"
    remark: str = ""
    chosen_step: int | None = None


def method_of(agent: Agent | Responder, folder: Path | None = None) -> Method:
    """The method that an agent is.

    Args:
        agent: the agent.
        folder: where it was saved; None for an agent that its own settings describe.
    """
    if isinstance(agent, StaticAgent):
        return Method(_hash(f"static {agent.program}"), agent.name, agent, "static")
    if isinstance(agent, TaskStaticAgent):
        programs = f"{agent.default} {sorted((task, str(program)) for task, program in agent.by_task.items())}"
        return Method(_hash(f"per task {programs}"), agent.name, agent, "baseline")
    if isinstance(agent, RandomAgent):
        return Method(_hash(f"random {agent.seed} {' '.join(map(str, agent.pool))}"), agent.name, agent, "baseline")
    if isinstance(agent, SamplingAgent):
        return Method(_hash(f"sampling {agent.choose} {agent.cost} {agent.seed}"), agent.name, agent, "baseline")
    if isinstance(agent, EnsembleAgent):
        return Method(_hash(f"ensemble {' | '.join(map(str, agent.programs))}"), agent.name, agent, "baseline")
    if isinstance(agent, EarlyExitAgent):
        return Method(_hash(f"exit {agent.threshold} {agent.first}"), agent.name, agent, "baseline")
    if folder is None:
        return Method(_hash(f"{type(agent).__qualname__} {agent.name}"), agent.name, agent)
    card, remark = read_card(folder), ""
    step: int | None = card.results.get("chosen_step")
    if step is not None and card.name != WARM_START:
        unchanged = "the warm start, unchanged: no policy beat it on validation questions"
        remark = f"the policy of step {step:,}" if step else unchanged
    return Method(_hash((folder / CARD).read_text(encoding="utf-8")), agent.name, agent, "agent", remark, step)


def oracle_method(config: MctsConfig, seed: int) -> Method:
    """The search that sees the gold answer, as a method."""
    return Method(_hash(f"oracle {config.model_dump_json()} {seed}"), ORACLE, role="oracle", remark="upper bound")


def methods_of(world: LiveWorld, names: Sequence[str], cards: dict[Path, AgentCard], seed: int) -> list[Method]:
    """What stands in every table, then what was asked for, without repetitions.

    Args:
        world: where agents decide.
        names: agents, as `agents.registry.load_agent` takes them, or folders of training runs.
        cards: the cards of the saved agents among them; the first that names the best static programs gives these.
        seed: of random agents and samples.
    """
    identity = method_of(load_agent(IDENTITY, world))
    methods = [identity]
    for card in cards.values():
        if BEST_STATIC in card.results and len(methods) == 1:
            methods += _static_methods(card, world)
    if len(methods) > 1 and methods[1].id == identity.id:  # one row for both
        methods[:2] = [replace(identity, remark="also the best static program")]
    methods += [method_of(load_agent(name, world, seed)) for name in ("random", "majority:2", "best-of:2")]
    for name in names:
        folders = find_agents(name)
        methods += [method_of(load_agent(str(folder), world), folder) for folder in folders]
        methods += [] if folders else [method_of(load_agent(name, world, seed))]
    return with_distinct_names(methods)


def _static_methods(card: AgentCard, world: LiveWorld) -> list[Method]:
    """The best static program, and the best one of each task, that a training chose."""
    best = Program.parse(card.results[BEST_STATIC], world.depth)
    by_task = {t: Program.parse(p, world.depth) for t, p in card.results.get(BEST_STATIC_PER_TASK, {}).items()}
    per_task = method_of(TaskStaticAgent(best, by_task, BEST_STATIC_PER_TASK))
    return [method_of(StaticAgent(best, BEST_STATIC)), *([per_task] if by_task else [])]


def with_distinct_names(methods: Sequence[Method]) -> list[Method]:
    """The methods without repetitions; of those that share a name all but the first show their identity, too: what is
    keyed by these names never mixes two methods.
    """
    distinct: dict[str, Method] = {}
    first: dict[str, str] = {}
    for method in methods:
        distinct.setdefault(method.id, method)
        first.setdefault(method.name, method.id)
    return [
        method if first[method.name] == method.id else replace(method, name=f"{method.name} ({method.id[:6]})")
        for method in distinct.values()
    ]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
