"""Agents and recorded worlds to and from the Hugging Face hub, for ``polar agents`` and ``polar record``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from polar_env.cli.bars import console
from polar_env.errors import ConfigError

if TYPE_CHECKING:
    from polar_env.hub import Pulled

__all__ = ["pull_agent", "pull_world", "push_agent", "push_world"]


def push_agent(name: str, repo: str, private: bool, revision: str, licence: str) -> dict[str, Any]:
    """Push a saved agent, and a page made of its card."""
    from agents.card import CARD, read_card
    from agents.listing import find_saved
    from agents.page import agent_page
    from polar_env.hub import push_folder

    _require(name and repo, "agents push skills OWNER/skills")
    folder, price = find_saved(name)
    if price:
        raise ConfigError(f"a saved agent has its own price of layers; leave '@{price}' to those who run it.")
    card = read_card(folder)
    files = {file: folder / file for file in (CARD, *card.weights)}
    address = push_folder(files, agent_page(card, repo, licence), repo, "model", private, revision)
    return _pushed(card.name, repo, address)


def pull_agent(repo: str, out: Path | None, revision: str) -> dict[str, Any]:
    """Pull a saved agent, every file of it checked."""
    from agents.card import CARD, read_card
    from polar_env.hub import pull_folder

    _require(repo, "agents pull OWNER/skills")
    pulled = pull_folder(repo, "model", out or Path(Path(repo).name), CARD, read_card, revision)
    return _pulled(pulled, f'polar run "What is 29 + 39?" --agent {pulled.folder}')


def push_world(world: str, repo: str, private: bool, revision: str) -> dict[str, Any]:
    """Push a recorded world, every file of it checked, and a page made of its card and its table."""
    from polar_env.hub import push_folder
    from polar_env.worlds import open_world, world_folder
    from polar_env.worlds.page import world_page
    from train.static import static_of_world

    _require(repo, "record push skills-smollm2-135m-v0 OWNER/skills-world")
    opened, folder = open_world(world), world_folder(world)
    page = world_page(opened, static_of_world(opened).program, repo)
    files = {file: folder / file for file in opened.card.files}
    return _pushed(opened.card.name, repo, push_folder(files, page, repo, "dataset", private, revision))


def pull_world(repo: str, out: Path | None, revision: str) -> dict[str, Any]:
    """Pull a recorded world, every file of it checked."""
    from polar_env.hub import pull_folder
    from polar_env.worlds import open_world
    from polar_env.worlds.recorded import CARD

    pulled = pull_folder(repo, "dataset", out or Path(Path(repo).name), CARD, open_world, revision)
    return _pulled(pulled, f"polar record describe {pulled.folder}")


def _require(given: str, example: str) -> None:
    if not given:
        raise ConfigError(f"something is missing; write e.g. polar {example}.")


def _pushed(name: str, repo: str, address: str) -> dict[str, Any]:
    console.print(f"{name} is in {repo}: {address}", markup=False)
    return {"name": name, "repo": repo, "address": address}


def _pulled(pulled: Pulled, use: str) -> dict[str, Any]:
    if pulled.left_out:
        console.print(f"left out, since they are no data: {', '.join(pulled.left_out)}", markup=False)
    console.print(f"{pulled.folder} holds commit {pulled.commit[:8]}; use it with: {use}", markup=False)
    return {"folder": str(pulled.folder), "commit": pulled.commit, "left_out": list(pulled.left_out)}
