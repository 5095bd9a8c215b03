"""What an executor remembers: values bounded in bytes, by question and program prefix."""

from __future__ import annotations

import sys
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, TypeVar

__all__ = ["ROOT", "BoundedCache", "Node", "last_layer", "length_of", "node_of", "parent_of", "step_of"]

Node = bytes
"""A program prefix, two bytes for each layer: cheap to hash, to cut and to extend."""
ROOT: Node = b""
"""The empty program prefix."""
_BYTES = 2


def step_of(layer: int) -> Node:
    """The prefix that is one layer; adding it to a node executes that layer next."""
    return array("H", (layer,)).tobytes()


def node_of(layers: Sequence[int]) -> Node:
    """A sequence of layers as a node."""
    return array("H", layers).tobytes()


def length_of(node: Node) -> int:
    """How many layers a node executes."""
    return len(node) // _BYTES


def parent_of(node: Node) -> Node:
    """The prefix before its last layer."""
    return node[:-_BYTES]


def last_layer(node: Node) -> int:
    """The layer executed last."""
    return int.from_bytes(node[-_BYTES:], sys.byteorder)


Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """Keeps values, least recently used out first.

    Args:
        capacity: bound of all values together, in bytes.

    Attributes:
        used: bytes of the values that are kept now.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity, self.used = capacity, 0
        self.entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """The value, which now counts as just used; None where there is none."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        self.entries.move_to_end(key)
        return entry[0]

    def put(self, key: Key, value: Value, size: int) -> None:
        """Keep a value of ``size`` bytes, in place of an older one; the oldest go until the bound holds."""
        if key in self.entries:
            self.used -= self.entries.pop(key)[1]
        self.entries[key] = (value, size)
        self.used += size
        while self.used > self.capacity:
            _, (_, freed) = self.entries.popitem(last=False)
            self.used -= freed
