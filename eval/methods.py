"""What is measured: agents, static programs, baselines and the oracle, each with an identity of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from agents.base import Agent, Responder
from agents.card import WARM_START, AgentCard, read_card
from agents.early_exit import EarlyExitAgent
from agents.ensemble import EnsembleAgent
from agents.fixed import RandomAgent, StaticAgent, TaskStaticAgent
from agents.registry import find_agents, load_agent, load_agents
from agents.sampling import SamplingAgent
from agents.search.config import MctsConfig
from polar_env.program import Program
from polar_env.worlds import LiveWorld

__all__ = [
    "ALSO_BEST_STATIC",
    "BEST_STATIC",
    "BEST_STATIC_PER_TASK",
    "IDENTITY",
    "ORACLE",
    "SAMPLED",
    "Method",
    "Role",
    "method_of",
    "methods_of",
    "oracle_method",
    "with_distinct_names",
]

IDENTITY, BEST_STATIC, BEST_STATIC_PER_TASK = "identity", "best-static", "best-static-per-task"
"""Names of what every report compares with."""
SAMPLED = ("majority ", "best-of ")
"""How names of the sampled identity begin."""
ORACLE = "oracle"
"""Name of the search that sees the gold answer: an upper bound, never a result."""
ALSO_BEST_STATIC = "also the best static program"
"""What the identity's row says where no other static program was better."""
_LEAST_SAMPLING = 1.01
"""Below this cost, sampling at an agent's cost would be the identity on all but a few questions."""
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
        card: the card that it was saved with; None for what its own settings describe.
        limit: it answers no more questions than this, the first ones; None for all.
    """

    id: str
    name: str
    agent: Agent | Responder | None = None
    role: Role = "agent"
    remark: str = ""
    card: AgentCard | None = None
    limit: int | None = None

    @property
    def chosen_step(self) -> int | None:
        """The step of training at which validation questions chose its policy; None for what was not trained."""
        return self.card.results.get("chosen_step") if self.card and self.role == "agent" else None

    @property
    def is_unchanged_start(self) -> bool:
        """Whether training left the policy that it started from."""
        return self.card is not None and self.card.name != WARM_START and self.chosen_step == 0


def method_of(agent: Agent | Responder, folder: Path | None = None) -> Method:
    """The method that an agent is.

    Args:
        agent: the agent.
        folder: where it was saved; None for an agent that its own settings describe.
    """
    card = None if folder is None else read_card(folder)
    settings, role = _settings(agent)
    if role != "agent" or card is None:
        return Method(_hash(settings), agent.name, agent, role, card=card)
    own = agent.name == card.name  # else at another price than it was trained with
    method = Method(card.digest if own else _hash(f"{card.digest} {agent.name}"), agent.name, agent, card=card)
    if method.chosen_step is None or card.name == WARM_START:
        return method
    unchanged = "the warm start, unchanged: no policy beat it on validation questions"
    return replace(method, remark=f"the policy of step {method.chosen_step:,}" if method.chosen_step else unchanged)


def _settings(agent: Agent | Responder) -> tuple[str, Role]:
    """All that decides what an agent does, where that is no network; and its role."""
    match agent:
        case StaticAgent():
            return f"static {agent.program}", "static"
        case TaskStaticAgent():
            by_task = sorted((task, str(program)) for task, program in agent.by_task.items())
            return f"per task {agent.default} {by_task}", "baseline"
        case RandomAgent():
            return f"random {agent.seed} {' '.join(map(str, agent.pool))}", "baseline"
        case SamplingAgent():
            return f"sampling {agent.choose} {agent.cost} {agent.seed}", "baseline"
        case EnsembleAgent():
            return f"ensemble {' | '.join(map(str, agent.programs))}", "baseline"
        case EarlyExitAgent():
            return f"exit {agent.threshold} {agent.first}", "baseline"
    return f"{type(agent).__qualname__} {agent.name}", "agent"


def oracle_method(config: MctsConfig, seed: int) -> Method:
    """The search that sees the gold answer, as a method."""
    return Method(_hash(f"oracle {config.model_dump_json()} {seed}"), ORACLE, role="oracle", remark="upper bound")


def methods_of(
    world: LiveWorld, names: Sequence[str], cards: dict[Path, AgentCard], seed: int, baseline_limit: int | None = None
) -> list[Method]:
    """What stands in every table, then what was asked for, without repetitions.

    Args:
        world: where agents decide.
        names: agents, as `agents.registry.load_agent` takes them, or folders of training runs.
        cards: the cards of the saved agents among them; the first that names the best static programs gives these.
        seed: of random agents and samples.
        baseline_limit: questions that baselines answer; agents, the identity, the best static programs and what was
            asked for by name answer all.
    """
    identity = method_of(load_agent(IDENTITY, world))
    methods = [identity]
    of_trainings = {folder: card for folder, card in cards.items() if BEST_STATIC in card.results}
    if of_trainings:
        folder, first = next(iter(of_trainings.items()))
        methods += _static_methods(first, world)
        if len({card.results[BEST_STATIC] for card in of_trainings.values()}) > 1:
            methods[1:] = [replace(method, remark=f"of the first training, in {folder}") for method in methods[1:]]
    if len(methods) > 1 and methods[1].id == identity.id:  # one row for both
        methods[:2] = [replace(methods[0], remark=ALSO_BEST_STATIC)]
    sampling = [f"{kind}:{cost:g}" for cost in _sampling_costs(cards) for kind in ("majority", "best-of")]
    baselines = [method_of(load_agent(name, world, seed)) for name in ("random", *sampling)]
    learned = []
    for name in names:
        loaded = [method_of(agent, folder) for agent, folder in load_agents(name, world, seed)]
        if not find_agents(name):  # asked for by its settings
            methods += loaded
            continue
        baselines += [method for method in loaded if method.role != "agent"]
        learned += [method for method in loaded if method.role == "agent"]
    limited = [replace(method, limit=baseline_limit) for method in baselines]
    return with_distinct_names([*methods, *limited, *_without_unchanged_starts(learned)])


def _without_unchanged_starts(learned: Sequence[Method]) -> list[Method]:
    """The agents without the warm starts that training left as they were: the trained agent's row says so."""
    unchanged = [method.card.weights for method in learned if method.card and method.is_unchanged_start]
    return [
        method
        for method in learned
        if not (method.card and method.card.name == WARM_START and method.card.weights in unchanged)
    ]


def _sampling_costs(cards: dict[Path, AgentCard]) -> list[float]:
    """The costs at which the identity is sampled: those of learned agents on validation, where above 1, and 2."""
    measured = [float(card.results["validation"]["cost"]) for card in cards.values() if "validation" in card.results]
    return sorted({round(cost, 2) for cost in measured if cost >= _LEAST_SAMPLING} | {2.0})


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
        same = distinct.setdefault(method.id, method)
        distinct[method.id] = replace(same, card=same.card or method.card)
        first.setdefault(method.name, method.id)
    return [
        method if first[method.name] == method.id else replace(method, name=f"{method.name} ({method.id[:6]})")
        for method in distinct.values()
    ]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
