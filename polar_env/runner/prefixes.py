"""Program prefixes: the layers executed so far, by which the runner's states are keyed."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence

__all__ = ["NO_LAYERS", "Prefix", "beginnings_of", "last_layer", "length_of", "parent_of", "prefix_of", "suffix_of"]

Prefix = bytes
"""Two bytes for each layer: cheap to hash, to cut and to extend."""
NO_LAYERS: Prefix = b""
"""The prefix before any layer."""
_BYTES = 2


def prefix_of(layers: Sequence[int]) -> Prefix:
    """A sequence of layers as a prefix."""
    return array("H", layers).tobytes()


def suffix_of(layer: int) -> Prefix:
    """One layer; adding it to a prefix executes that layer next."""
    return array("H", (layer,)).tobytes()


def length_of(prefix: Prefix) -> int:
    """How many layers a prefix executes."""
    return len(prefix) // _BYTES


def parent_of(prefix: Prefix) -> Prefix:
    """The prefix without its last layer."""
    return prefix[:-_BYTES]


def last_layer(prefix: Prefix) -> int:
    """The layer executed last."""
    return int.from_bytes(prefix[-_BYTES:], sys.byteorder)


def beginnings_of(prefix: Prefix) -> list[Prefix]:
    """All prefixes of one layer or more that a prefix begins with, the shortest first, itself last."""
    return [prefix[:end] for end in range(_BYTES, len(prefix) + 1, _BYTES)]
