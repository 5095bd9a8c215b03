"""Which saved agents there are, and what their cards say in short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents.card import AgentCard, read_card
from agents.registry import NAMES, TRAINED, find_agent, find_agents, split_price
from polar_env.errors import ConfigError, PolarError, UnknownNameError

__all__ = ["describe", "find_card", "find_saved", "list_agents"]

_JUDGED = ("out_of_fold", "validation")
"""Where cards keep scores on questions that the agent was not fitted on."""
_HINT = "Or give the folder of a saved agent, or of a run that holds some, e.g. runs/quickstart."


def list_agents(place: str = "") -> dict[str, AgentCard | PolarError]:
    """The agents that ship with the package, then those at a place; each by the name or folder that commands take.

    Args:
        place: a run's folder, or an agent's; empty for none.

    Returns:
        Their cards; for an agent that cannot be used, what is wrong with it.

    Raises:
        UnknownNameError: if no agent is there.
    """
    found = find_agents(place) if place else []
    if place and not found:
        raise UnknownNameError("agent or run", place, TRAINED, _HINT)
    shipped = {find_agents(name)[0]: name for name in TRAINED}
    places = shipped | {folder: str(folder) for folder in found if folder not in shipped}
    return {name: _read(folder) for folder, name in places.items()}


def _read(folder: Path) -> AgentCard | PolarError:
    try:
        return read_card(folder)
    except PolarError as error:
        return error


def find_saved(name: str) -> tuple[Path, str]:
    """The folder of a saved agent, by the name or folder that commands take, and the price behind it, or empty.

    Raises:
        UnknownNameError: for a name that is no saved agent, or a folder of several.
        ConfigError: for what runs several programs of an agent, which has no folder of its own.
    """
    folder = find_agent(name)
    if folder is None:
        saved = [each for each in NAMES if each.split("@")[0] in TRAINED]
        raise UnknownNameError("saved agent", name, saved, _HINT)
    _, bar, inner = name.rpartition("|")
    if bar and not Path(name).exists():
        raise ConfigError(f"'{name}' runs several programs of a saved agent and has no folder; give '{inner}' alone.")
    return folder, split_price(name)[1]


def find_card(name: str) -> AgentCard:
    """The card of an agent; see `find_saved` and `read_card`."""
    return read_card(find_saved(name)[0])


def describe(card: AgentCard) -> dict[str, Any]:
    """A card in short.

    Returns:
        What it is and for which LLM, on how many questions it was trained and chosen, the best static program beside
        it, and ``judged``: its scores on questions that it was not fitted on, where its training kept some.
    """
    results = card.results
    judged = next(({"how": how, **results[how]} for how in _JUDGED if isinstance(results.get(how), dict)), None)
    return {
        "name": card.name,
        "kind": card.kind,
        "model": card.model,
        "dtype": card.dtype,
        "depth": card.depth,
        "prompt": card.prompts.name,
        "tasks": card.tasks,
        "questions": card.questions,
        "trained_on": len(card.train_asks),
        "chosen_on": len(card.validation_asks),
        "seed": card.seed,
        "best_static": results.get("best-static"),
        "judged": judged,
        "versions": card.versions,
    }
