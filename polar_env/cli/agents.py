"""``polar agents list|show|push|pull``: the saved agents, what their cards say, and the hub that they are shared on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from polar_env.cli.hub import pull_agent, push_agent
from polar_env.config import Config
from polar_env.errors import ConfigError

if TYPE_CHECKING:
    from agents.card import AgentCard
    from polar_env.errors import PolarError

__all__ = ["CONFIG", "EXAMPLES", "AgentsConfig", "run"]


_SHOWN = 2
"""Tasks of an agent that a list names; its card names all."""


class AgentsConfig(Config):
    """Saved agents: those that ship with the package, and yours.

    list [DIR]: the agents that ship, and those of the run in DIR; exit code 1 where one cannot be used. show NAME|DIR:
    the card of one. push NAME|DIR OWNER/REPO: to the Hugging Face hub, with a page made of its card. pull OWNER/REPO:
    from there, every file checked.
    """

    action: Annotated[Literal["list", "show", "push", "pull"], tyro.conf.Positional] = "list"
    """What to do."""
    name: Annotated[str, tyro.conf.Positional] = ""
    """list: a run's folder; show, push: the name or the folder of an agent; pull: a repository of the hub."""
    repo: Annotated[str, tyro.conf.Positional] = ""
    """push: a repository of the hub, OWNER/REPO; made where there is none."""
    out: Path | None = None
    """pull: a new folder for the agent; by default called as the repository."""
    private: bool = False
    """push: a new repository is seen by its owner alone."""
    licence: str = ""
    """push: licence of the agent's weights, e.g. apache-2.0."""
    revision: str = ""
    """push: a branch, made where there is none; pull: a branch, tag or commit; by default the main branch."""
    json_output: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print the result as one JSON object on standard output."""


CONFIG = AgentsConfig
EXAMPLES = ("polar agents list", "polar agents show skills", "polar agents pull OWNER/REPO --out runs/theirs")


def run(config: AgentsConfig) -> dict[str, Any]:
    """Do what the action says."""
    from agents.listing import describe, find_card, list_agents

    if config.action == "push":
        return push_agent(config.name, config.repo, config.private, config.revision, config.licence)
    if config.action == "pull":
        return pull_agent(config.name, config.out, config.revision)
    if config.action == "show":
        if not config.name:
            raise ConfigError("there is no agent to show; write e.g. polar agents show skills.")
        card = describe(find_card(config.name))
        if not config.json_output:
            print("\n".join(f"{key:<12} {value}" for key, value in _lines(card).items()))
        return card
    cards = list_agents(config.name)
    if not config.json_output:
        _print(cards)
    problems = {name: str(card) for name, card in cards.items() if isinstance(card, Exception)}
    good = {name: describe(card) for name, card in cards.items() if not isinstance(card, Exception)}
    return {"agents": good, "problems": problems, "failed": len(problems)}


def _print(cards: dict[str, AgentCard | PolarError]) -> None:
    """One row for each agent."""
    from rich.console import Console
    from rich.table import Table

    from agents.listing import describe

    table = Table("agent", "kind", "model", "trained on", "best static program", "where it was not fitted")
    for name, card in cards.items():
        if isinstance(card, Exception):
            table.add_row(name, "cannot be used", "", str(card))
            continue
        said = describe(card)
        more = f" and {len(said['tasks']) - _SHOWN} more tasks" if len(said["tasks"]) > _SHOWN else ""
        asked = f"{said['trained_on']} questions of {', '.join(said['tasks'][:_SHOWN])}{more}"
        table.add_row(name, card.kind, card.model, asked, said["best_static"] or "", _judged(said["judged"]))
    Console(markup=False, highlight=False).print(table)


def _lines(card: dict[str, Any]) -> dict[str, str]:
    """A card's entries in words."""
    lines = {
        "name": card["name"],
        "kind": card["kind"],
        "model": f"{card['model']}, {card['depth']} layers, in {card['dtype']}",
        "prompt": card["prompt"],
        "tasks": ", ".join(card["tasks"]),
        "questions": f"{', '.join(card['questions'])}: {card['trained_on']} to train, {card['chosen_on']} to choose",
        "seed": str(card["seed"]),
        "best static": card["best_static"] or "",
        "result": _judged(card["judged"]),
        "made with": ", ".join(f"{name} {version}" for name, version in card["versions"].items()),
    }
    return {key: value for key, value in lines.items() if value}


def _judged(judged: dict[str, Any] | None) -> str:
    """Scores on questions that the agent was not fitted on, in words; empty where there are none."""
    if judged is None:
        return ""
    how = {"out_of_fold": "out of fold", "validation": "on validation"}[judged["how"]]
    parts = {"pass@1": "pass_at_1", "best static": "static_pass_at_1", "identity": "identity_pass_at_1"}
    shares = [f"{name} {100 * judged[key]:.1f} %" for name, key in parts.items() if key in judged]
    cost = [f"cost {judged['cost']:.3f}"] if "cost" in judged else []
    asked = f", {judged['questions']} questions" if "questions" in judged else ""
    return f"{', '.join([*shares, *cost])} ({how}{asked})"
