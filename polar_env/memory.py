"""What an executor remembers by: numbers for program prefixes, and caches bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, TypeVar

__all__ = ["ROOT", "BoundedCache", "ProgramTrie"]

ROOT = 0
"""Trie node of the empty program prefix."""
Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """Keeps values, least recently used out first.

    Args:
        capacity: bound of all values together, in bytes.
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
        """Keep a value of ``size`` bytes; the oldest go until the bound holds."""
        if key in self.entries:
            return
        self.entries[key] = (value, size)
        self.used += size
        while self.used > self.capacity:
            _, (_, freed) = self.entries.popitem(last=False)
            self.used -= freed


class ProgramTrie:
    """Numbers every program prefix, so that a prefix is an int and its extension one dictionary look-up."""

    def __init__(self) -> None:
        self.parents, self.layers = [ROOT], [-1]
        self._children: dict[tuple[int, int], int] = {}

    def child(self, node: int, layer: int) -> int:
        """The prefix ``node`` extended by ``layer``."""
        found = self._children.get((node, layer))
        if found is None:
            found = self._children[(node, layer)] = len(self.parents)
            self.parents.append(node)
            self.layers.append(layer)
        return found

    def path(self, layers: Sequence[int]) -> list[int]:
        """The nodes from the root to the whole sequence, one more than there are layers."""
        nodes = [ROOT]
        for layer in layers:
            nodes.append(self.child(nodes[-1], layer))
        return nodes
