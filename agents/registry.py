"""Agents by name or folder. A card's ``kind`` names its loader; packages add kinds as entry points.

    [project.entry-points."polar_env.agents"]
    mine = "my_package:load"

where ``load(folder, card, world)`` returns an `Agent`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from agents.base import Agent, Priced, Responder
from agents.card import CARD, AgentCard, read_card
from agents.cascade import CascadeAgent
from agents.early_exit import EarlyExitAgent
from agents.ensemble import EnsembleAgent
from agents.fixed import RandomAgent, StaticAgent
from agents.sampling import SamplingAgent
from polar_env.errors import ConfigError, FingerprintError, UnknownNameError
from polar_env.program import Program
from polar_env.worlds import AskWorld, World

__all__ = [
    "GROUP",
    "NAMES",
    "TRAINED",
    "Loader",
    "find_agent",
    "find_agents",
    "load_agent",
    "load_agents",
    "loader_of",
    "read_cards",
    "split_price",
]

GROUP = "polar_env.agents"
"""Entry-point group of loaders."""
TRAINED = ("skills",)
"""Trained agents that ship with the package."""
NAMES = (
    *TRAINED,
    "skills@PRICE",
    "identity",
    "random",
    "static:PROGRAM",
    "majority:RUNS",
    "best-of:RUNS",
    "ensemble:PROGRAM|PROGRAM",
    "selector:RUNS|AGENT",
    "cascade:CONFIDENCE|AGENT",
    "early-exit:CONFIDENCE",
)
_AROUND_AGENTS = ("selector:", "cascade:")
"""What runs several programs of the agent that is named behind the ``|``."""
Loader = Callable[[Path, AgentCard, AskWorld], Agent | Responder]


def find_agents(name: str) -> list[Path]:
    """The agent folders at a path: itself, or those of a run (``DIR/agents/*``), in alphabetical order; or the one that
    ships with the package under a name of `TRAINED`. A price behind the name, ``NAME@0.8``, changes nothing here, nor
    does what answers out of several runs of an agent, ``selector:2|NAME``.
    """
    name, _ = split_price(name.rpartition("|")[2] if name.startswith(_AROUND_AGENTS) else name)
    if name in TRAINED:
        return [Path(str(resources.files("agents") / "trained" / name))]
    folder = Path(name).expanduser()
    candidates = [folder, *sorted(folder.glob("agents/*")), *sorted(folder.glob("*"))]
    folders = [candidate for candidate in candidates if (candidate / CARD).is_file()]
    return folders[:1] if folders[:1] == [folder] else list(dict.fromkeys(folders))


def split_price(name: str) -> tuple[str, str]:
    """A name, and the price of D layers that stands behind it, ``NAME@PRICE``; empty where there is none."""
    match = None if Path(name).expanduser().exists() else re.fullmatch(r"(.+)@(\d*\.?\d+)", name)
    return (match[1], match[2]) if match else (name, "")


def find_agent(name: str) -> Path | None:
    """The folder of the one agent at a path; None where there is none.

    Raises:
        UnknownNameError: if there are several.
    """
    folders = find_agents(name)
    if len(folders) > 1:
        several = ", ".join(map(str, folders))
        raise UnknownNameError("agent", name, NAMES, f"The folder holds several agents; give one of them: {several}.")
    return folders[0] if folders else None


def read_cards(names: Sequence[str]) -> dict[Path, AgentCard]:
    """The cards of the saved agents among some names; a training run's folder names all its agents.

    Raises:
        FingerprintError: if they were made for different models or prompts.
    """
    folders = [folder for name in names for folder in find_agents(name)]
    cards = {folder: read_card(folder) for folder in dict.fromkeys(folders)}
    first = next(iter(cards.values()), None)
    for card in cards.values():
        if first is not None and (card.fingerprint, card.prompts) != (first.fingerprint, first.prompts):
            raise FingerprintError(
                f"agents '{first.name}' and '{card.name}' were trained with different models or prompts; use them one "
                "at a time."
            )
    return cards


def loader_of(kind: str) -> Loader:
    """The loader of a kind of agent.

    Raises:
        UnknownNameError: for a kind that no installed package has.
    """
    points = {point.name: point for point in entry_points(group=GROUP)}
    if kind not in points:
        hint = f"A package that adds it must be installed; it has an entry point in the group '{GROUP}'."
        raise UnknownNameError("kind of agent", kind, points, hint)
    return cast("Loader", points[kind].load())


def _static(world: AskWorld, setting: str, seed: int) -> StaticAgent:
    program = Program.parse(setting, world.depth)
    return StaticAgent(program, f"static {program}")


def _ensemble(world: AskWorld, setting: str, seed: int) -> EnsembleAgent:
    programs = [Program.parse(text, world.depth) for text in setting.split("|")]
    return EnsembleAgent(world, programs, f"ensemble of {len(programs)}")


def _number(setting: str, kind: str) -> float:
    try:
        return float(setting)
    except ValueError:
        raise ConfigError(f"'{kind}:{setting}': '{setting}' is no number; write e.g. {kind}:2.") from None


_BY_NAME: dict[str, Callable[[AskWorld, str, int], Agent | Responder]] = {
    "identity": lambda world, _, __: StaticAgent(world.identity, "identity"),
    "random": lambda world, _, seed: RandomAgent(world.depth, seed),
    "static": _static,
    "majority": lambda world, runs, seed: SamplingAgent(world, _number(runs, "majority"), "majority", seed),
    "best-of": lambda world, runs, seed: SamplingAgent(world, _number(runs, "best-of"), "confidence", seed),
    "ensemble": _ensemble,
    "early-exit": lambda world, sure, _: EarlyExitAgent(world, _number(sure, "early-exit"), name=f"early-exit {sure}"),
}
"""Agents that a name and a setting describe."""


def load_agent(name: str, world: World, seed: int = 0) -> Agent | Responder:
    """Load an agent.

    Args:
        name: one of `NAMES`, or the folder of a saved agent; one that weighs layers takes another price of D layers
            behind its name, ``skills@0.8``: the dial between accuracy and cost.
        world: where it decides.
        seed: of random agents that are given by name; a saved one has its own.

    Raises:
        UnknownNameError: for a name that is none of these, a folder of several agents, or a card of a kind that no
            installed package has.
        FingerprintError: for a card of another version, LLM, prompt or weights.
        ProgramError: for a program that does not fit the model.
        ConfigError: for a card that is damaged, or a setting in a name that is out of range or no number.
    """
    kind, _, setting = name.partition(":")
    if name.startswith(_AROUND_AGENTS):
        return _around(kind, setting, world, seed)
    if kind in _BY_NAME and bool(setting) == (kind not in ("identity", "random")):
        return _BY_NAME[kind](world.asks, setting, seed)
    folder = find_agent(name)
    if folder is None:
        hint = "Or give the folder of a saved agent, e.g. runs/quickstart/agents/ppo."
        raise UnknownNameError("agent", name, NAMES, hint)
    card = read_card(folder)
    _require_same_world(card, folder, world)
    agent, price = loader_of(card.kind)(folder, card, world.asks), split_price(name)[1]
    if not price:
        return agent
    if not isinstance(agent, Priced):
        raise ConfigError(f"the agent in {folder} has no price of layers to set; leave '@{price}' away.")
    return agent.at_price(float(price))


def _around(kind: str, setting: str, world: World, seed: int) -> CascadeAgent:
    """What runs several programs of an agent: a selector, or a cascade."""
    number, bar, of = setting.partition("|")
    example = {"selector": "selector:2|skills", "cascade": "cascade:0.9|skills"}[kind]
    inner = load_agent(of, world, seed) if bar else None
    if inner is None or isinstance(inner, Responder):
        raise ConfigError(f"'{kind}:{setting}' names no agent that ranks programs; write e.g. {example}.")
    name = f"{kind} {number} of {inner.name}"
    if kind == "selector" and number.isdecimal() and int(number) >= 1:
        return CascadeAgent(world.asks, inner, runs=int(number), name=name)
    if kind == "cascade" and 0 < _number(number, kind) <= 1:
        return CascadeAgent(world.asks, inner, sure=float(number), name=name)
    wanted = "a number of runs, 1 or more" if kind == "selector" else "a confidence above 0, at most 1"
    raise ConfigError(f"'{kind}:{setting}': '{number}' is not {wanted}; write e.g. {example}.")


def load_agents(name: str, world: World, seed: int = 0) -> list[tuple[Agent | Responder, Path | None]]:
    """Load all agents of a name, each with its folder: a training run has several; see `load_agent`.

    A price behind the name of a run is that of its agents that weigh layers.
    """
    folders, price = find_agents(name), split_price(name)[1]
    if len(folders) < 2 or name.startswith(_AROUND_AGENTS):
        return [(load_agent(name, world, seed), folders[0] if folders else None)]
    agents = [(load_agent(str(folder), world), folder) for folder in folders]
    if not price:
        return [*agents]
    return [(agent.at_price(float(price)) if isinstance(agent, Priced) else agent, folder) for agent, folder in agents]


def _require_same_world(card: AgentCard, folder: Path, world: World) -> None:
    """Refuse an agent that was made for another LLM or other prompts."""
    if card.fingerprint != world.fingerprint:
        raise FingerprintError(
            f"the agent in {folder} was made for '{card.model}' in {card.dtype} ({card.fingerprint}); this is another "
            f"LLM or type ({world.fingerprint}). Pass that model with --model and that type with --dtype, or train an "
            "agent for this one."
        )
    if card.prompts != world.prompts:
        raise FingerprintError(
            f"the agent in {folder} was made under prompt '{card.prompts.name}' with other examples than this one "
            f"('{world.prompts.name}'); leave --prompt away to use the agent's own."
        )
