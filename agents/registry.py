"""Agents by name or folder; packages add names to `MAKERS`, and kinds of saved agents to `LOADERS`.

    [project.entry-points."polar_env.agent_names"]
    mine = "my_package:make"

    [project.entry-points."polar_env.agents"]
    mine = "my_package:load"

where ``make(world, setting, seed)`` returns the `Agent` of ``mine:SETTING``, and ``load(folder, card, world)`` a saved
one whose card has the kind ``mine``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

from agents.base import Agent, Priced, Responder
from agents.card import CARD, AgentCard, read_card
from agents.cascade import CascadeAgent
from agents.early_exit import EarlyExitAgent
from agents.ensemble import EnsembleAgent
from agents.fixed import RandomAgent, StaticAgent
from agents.sampling import SamplingAgent
from polar_env.errors import ConfigError, FingerprintError, UnknownNameError
from polar_env.program import Program
from polar_env.registry import Registry
from polar_env.worlds import AskWorld, World

__all__ = [
    "LOADERS",
    "MAKERS",
    "NAMES",
    "TRAINED",
    "Loader",
    "Maker",
    "find_agent",
    "find_agents",
    "load_agent",
    "load_agents",
    "read_cards",
    "split_price",
]

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
_HAS_SETTING = {name.partition(":")[0]: ":" in name for name in NAMES}
_AROUND_AGENTS = ("selector:", "cascade:")
"""What runs several programs of the agent that is named behind the ``|``."""
Loader = Callable[[Path, AgentCard, AskWorld], Agent | Responder]
LOADERS: Registry[Loader] = Registry("kind of agent", "polar_env.agents")
"""Loaders of saved agents, by the ``kind`` of their cards."""
Maker = Callable[[AskWorld, str, int], Agent | Responder]
MAKERS: Registry[Maker] = Registry("agent", "polar_env.agent_names")
"""Agents that a name describes, ``NAME`` or ``NAME:SETTING``: each made from a world, its setting and a seed."""


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


@MAKERS.register("identity")
def _identity(world: AskWorld, setting: str, seed: int) -> StaticAgent:
    return StaticAgent(world.identity, "identity")


@MAKERS.register("random")
def _random(world: AskWorld, setting: str, seed: int) -> RandomAgent:
    return RandomAgent(world.depth, seed)


@MAKERS.register("static")
def _static(world: AskWorld, setting: str, seed: int) -> StaticAgent:
    program = Program.parse(setting, world.depth)
    return StaticAgent(program, f"static {program}")


@MAKERS.register("majority")
def _majority(world: AskWorld, runs: str, seed: int) -> SamplingAgent:
    return SamplingAgent(world, _number(runs, "majority"), "majority", seed)


@MAKERS.register("best-of")
def _best_of(world: AskWorld, runs: str, seed: int) -> SamplingAgent:
    return SamplingAgent(world, _number(runs, "best-of"), "confidence", seed)


@MAKERS.register("early-exit")
def _early_exit(world: AskWorld, sure: str, seed: int) -> EarlyExitAgent:
    return EarlyExitAgent(world, _number(sure, "early-exit"), name=f"early-exit {sure}")


@MAKERS.register("ensemble")
def _ensemble(world: AskWorld, setting: str, seed: int) -> EnsembleAgent:
    programs = [Program.parse(text, world.depth) for text in setting.split("|")]
    return EnsembleAgent(world, programs, f"ensemble of {len(programs)}")


def _number(setting: str, kind: str) -> float:
    try:
        return float(setting)
    except ValueError:
        raise ConfigError(f"'{kind}:{setting}': '{setting}' is no number; write e.g. {kind}:2.") from None


def load_agent(name: str, world: World, seed: int = 0) -> Agent | Responder:
    """Load an agent.

    Args:
        name: one of `NAMES` or `MAKERS`, or the folder of a saved agent; one that weighs layers takes another price of
            D layers behind its name, ``skills@0.8``: the dial between accuracy and cost.
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
    if kind in MAKERS and bool(setting) == _HAS_SETTING.get(kind, bool(setting)):
        return MAKERS.get(kind)(world.asks, setting, seed)
    folder = find_agent(name)
    if folder is None:
        hint = "Or give the folder of a saved agent, e.g. runs/quickstart/agents/ppo."
        raise UnknownNameError("agent", name, [*NAMES, *(kind for kind in MAKERS if kind not in _HAS_SETTING)], hint)
    card = read_card(folder)
    _require_same_world(card, folder, world)
    agent, price = LOADERS.get(card.kind)(folder, card, world.asks), split_price(name)[1]
    if not price:
        return agent
    if not isinstance(agent, Priced):
        raise ConfigError(f"the agent in {folder} has no price of layers to set; leave out '@{price}'.")
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
            "agent for this one. A named model may come from two sources with other weights: `polar assets list` says "
            "from which; delete its folder in the cache, and pull it again."
        )
    if card.prompts != world.prompts:
        raise FingerprintError(
            f"the agent in {folder} was made under prompt '{card.prompts.name}' with other examples than this one "
            f"('{world.prompts.name}'); leave out --prompt to use the agent's own."
        )
