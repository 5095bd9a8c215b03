"""An agent's card: what is needed to use it, to check it, and to keep its training questions out of an evaluation.

Every kind of agent has the same card. It holds no LLM and nothing that is unpickled; weights lie beside it as
safetensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from polar_env.config import Config
from polar_env.errors import ConfigError, FingerprintError
from polar_env.questions import Prompts
from polar_env.tables import sha256_of, write_whole

__all__ = ["CARD", "WARM_START", "AgentCard", "library_versions", "read_card", "save_agent"]

CARD = "agent.json"
WARM_START = "imitation"
"""Name of the agent from which PPO starts."""
SCHEMA_VERSION = 2
"""Counts the changes of what a card means."""
_LIBRARIES = ("torch", "transformers", "stable-baselines3", "sb3-contrib", "gymnasium", "polar-env")


def library_versions() -> dict[str, str]:
    """The versions of the libraries that decide what an agent is."""
    return {name: version(name) for name in _LIBRARIES}


_Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]
"""One line of text: pages of exports show it."""


class AgentCard(Config):
    """What an agent says of itself."""

    schema_version: int = SCHEMA_VERSION
    """Version of the card's meaning."""
    kind: str
    """Kind of agent: which loader makes it."""
    name: _Line
    """Name of the row in a report; two agents may share it."""
    model: _Line
    """How the LLM was called."""
    dtype: _Line
    """The LLM's floating-point type."""
    fingerprint: str
    """The LLM's fingerprint."""
    depth: int
    """The LLM's depth."""
    prompts: Prompts
    """The prompts that questions are asked under."""
    tasks: list[str]
    """The tasks of its training questions."""
    questions: list[str]
    """The question specs of the training."""
    train_asks: list[str]
    """Hashes of the canonical forms of all asks that it was trained on."""
    validation_asks: list[str]
    """Hashes of the canonical forms of all asks that chose among its versions."""
    prose_asks: list[str] = []  # noqa: RUF012 - pydantic copies defaults
    """Of train and validation asks in prose, what near-duplicates are known by; see `polar_env.questions.near_hash`."""
    seed: int
    """Seed of its training and of whatever it draws."""
    versions: dict[str, str]
    """Versions of the libraries that made it."""
    config: dict[str, Any]
    """Its resolved configuration."""
    results: dict[str, Any]
    """What its training measured: scores on validation questions, the best static program, the step that was chosen."""
    weights: dict[str, str] = {}  # noqa: RUF012 - pydantic copies defaults
    """The sha256 of each file beside the card."""

    @property
    def digest(self) -> str:
        """A hash of all that it says."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def setting(self, name: str) -> Any:
        """An entry of its configuration that its kind needs.

        Raises:
            ConfigError: if the card lacks it.
        """
        if name not in self.config:
            raise ConfigError(
                f"the card of the agent '{self.name}' lacks '{name}' in its config, which kind '{self.kind}' needs; it "
                f"has {', '.join(sorted(self.config)) or 'nothing'}. Train the agent again."
            )
        return self.config[name]


def save_agent(card: AgentCard, folder: Path, weights: Mapping[str, bytes]) -> AgentCard:
    """Save an agent; the card last, so that a folder with a card is whole.

    Args:
        card: the card, without the hashes of weights.
        folder: where to.
        weights: content of the files beside the card, by name.

    Returns:
        The card as it was written.
    """
    for name, content in weights.items():
        write_whole(folder / name, content)
    card = card.model_copy(update={"weights": {name: sha256_of(folder / name) for name in weights}})
    write_whole(folder / CARD, card.model_dump_json(indent=2).encode())
    return card


def read_card(folder: Path) -> AgentCard:
    """Read an agent's card.

    Raises:
        ConfigError: if the folder holds no agent, or the card is damaged or names files elsewhere.
        FingerprintError: if the card is of another version, or a file beside it is not the one that it names.
    """
    path = folder / CARD
    if not path.is_file():
        raise ConfigError(f"{folder} holds no agent ({CARD} is missing); `polar train --out DIR` makes DIR/agents/ppo.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        written = values.get("schema_version")
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged: {error}. Train the agent again, or put a copy there.") from error
    if written != SCHEMA_VERSION:
        newer = isinstance(written, int) and written > SCHEMA_VERSION
        mend = "install a newer polar-env" if newer else "train the agent again"
        raise FingerprintError(f"{path} is a card of version {written}; this polar-env reads {SCHEMA_VERSION}: {mend}.")
    card = AgentCard.of(values, str(path))
    for name, expected in card.weights.items():
        if Path(name).name != name:
            raise ConfigError(f"{path} names the file '{name}', which does not lie beside it; an agent is one folder.")
        if not (folder / name).is_file() or sha256_of(folder / name) != expected:
            raise FingerprintError(
                f"{folder / name} is not the file that the agent's card names (sha256 {expected[:16]}..): it is "
                "missing or was swapped. Put the right file there, or train the agent again."
            )
    return card
