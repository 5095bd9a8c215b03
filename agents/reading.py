"""What agents that read reduced states keep beside their cards, and the world in which they read the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import load_file

from agents.card import AgentCard
from polar_env.errors import FingerprintError
from polar_env.worlds import AskWorld, RecordedAsks, ReducedAsks, Reduction

__all__ = ["Arrays", "own_arrays", "read_weights", "reading_world", "saved_reduction"]

Arrays = dict[str, NDArray[Any]]
_PREFIX = "reduction."


def read_weights(folder: Path, card: AgentCard, name: str) -> Arrays:
    """The arrays of a safetensors file beside a card.

    Raises:
        FingerprintError: if the card names no hash of the file.
    """
    if name not in card.weights:
        raise FingerprintError(f"the card in {folder} names no sha256 of {name}. Train the agent again.")
    return load_file(folder / name)


def saved_reduction(reduction: Reduction) -> Arrays:
    """The arrays from which `reading_world` makes a reduction again: of one depth, where the agent looks."""
    return {f"{_PREFIX}{name}": array for name, array in reduction.arrays().items()}


def own_arrays(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """The arrays without those of the reduction."""
    return {name: array for name, array in arrays.items() if not name.startswith(_PREFIX)}


def reading_world(world: AskWorld, look: int, arrays: Mapping[str, NDArray[Any]], folder: Path) -> AskWorld:
    """A world whose observations are those that an agent was fitted on; a recorded one reduces by itself.

    Args:
        world: executes.
        look: layers of the identity after which the agent reads.
        arrays: those of `saved_reduction` are among them.
        folder: the agent's, for messages.

    Raises:
        FingerprintError: for a recorded world that reduces in another way.
    """
    reduction = Reduction.of([look], {name: arrays[f"{_PREFIX}{name}"] for name in ("means", "bases")})
    if not isinstance(world, RecordedAsks):
        return ReducedAsks(world, reduction)
    if look in world.reduction.depths and world.reduction.at(look).equals(reduction):
        return world
    raise FingerprintError(
        f"the agent in {folder} reads states reduced in another way than those of '{world.card.name}'. Use the world "
        "that it was trained on, or execute live."
    )
