"""A cache bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["BoundedCache"]

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
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def get(self, key: Key) -> Value | None:
        """The value, which now counts as just used; None where there is none."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: Key, value: Value, size: int) -> None:
        """Keep a value of ``size`` bytes, in place of an older one; the oldest go until the bound holds."""
        if key in self._entries:
            self.used -= self._entries.pop(key)[1]
        self._entries[key] = (value, size)
        self.used += size
        while self.used > self.capacity:
            _, (_, freed) = self._entries.popitem(last=False)
            self.used -= freed
