"""Agents by name or folder. A card's ``kind`` names its loader; packages add kinds as entry points.

    [project.entry-points."polar_env.agents"]
    mine = "my_package:load"

where ``load(folder, card, world)`` returns an `Agent`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from agents.base import Agent
from agents.card import CARD, AgentCard, read_card
from agents.fixed import RandomAgent, StaticAgent
from polar_env.errors import FingerprintError, UnknownNameError
from polar_env.program import Program
from polar_env.worlds import LiveAsks, LiveWorld

__all__ = ["GROUP", "NAMES", "Loader", "find_agents", "load_agent", "loader_of", "read_cards"]

GROUP = "polar_env.agents"
"""Entry-point group of loaders."""
NAMES = ("identity", "random", "static:PROGRAM")
Loader = Callable[[Path, AgentCard, LiveAsks], Agent]


def find_agents(name: str) -> list[Path]:
    """The agent folders at a path: itself, or those of a run (``DIR/agents/*``), imitation before PPO."""
    folder = Path(name).expanduser()
    candidates = [folder, *sorted(folder.glob("agents/*")), *sorted(folder.glob("*"))]
    folders = [candidate for candidate in candidates if (candidate / CARD).is_file()]
    return folders[:1] if folders[:1] == [folder] else list(dict.fromkeys(folders))


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


def load_agent(name: str, world: LiveWorld, seed: int = 0) -> Agent:
    """Load an agent.

    Args:
        name: ``identity``, ``random``, ``static:PROGRAM``, or the folder of a saved agent.
        world: where it decides.
        seed: of random agents that are given by name; a saved one has its own.

    Raises:
        UnknownNameError: for a name that is none of these, or a card of a kind that no installed package has.
        ConfigError, FingerprintError: for a card that is damaged, or of another version, LLM, prompt or weights.
        ProgramError: for a static program that does not fit the model.
    """
    if name == "identity":
        return StaticAgent(world.identity, "identity")
    if name == "random":
        return RandomAgent(world.depth, seed)
    if name.startswith("static:"):
        program = Program.parse(name.removeprefix("static:"), world.depth)
        return StaticAgent(program, f"static {program}")
    folders = find_agents(name)
    if len(folders) != 1:
        hint = "Or give the folder of a saved agent, e.g. runs/quickstart/agents/ppo."
        if folders:
            hint = f"The folder holds several agents: {', '.join(map(str, folders))}."
        raise UnknownNameError("agent", name, NAMES, hint)
    card = read_card(folders[0])
    _require_same_world(card, folders[0], world)
    return loader_of(card.kind)(folders[0], card, world.asks)


def _require_same_world(card: AgentCard, folder: Path, world: LiveWorld) -> None:
    """Refuse an agent that was made for another LLM or other prompts."""
    llm = world.llm
    if card.fingerprint != llm.fingerprint:
        raise FingerprintError(
            f"the agent in {folder} was made for '{card.model}' in {card.dtype} ({card.fingerprint}); this is "
            f"'{llm.name}' in {llm.dtype_name} ({llm.fingerprint}). Pass that model with --model and that type with "
            "--dtype, or train an agent for this one."
        )
    if card.prompts != world.prompts:
        raise FingerprintError(
            f"the agent in {folder} was made under prompt '{card.prompts.name}' with other examples than this one "
            f"('{world.prompts.name}'); leave --prompt away to use the agent's own."
        )
