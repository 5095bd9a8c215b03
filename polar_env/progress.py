"""How long work tells whoever waits how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

__all__ = ["Advance", "Progress", "no_progress"]

Advance = Callable[[int], None]
"""Called with the number of units just finished."""


class Progress(Protocol):
    """Opens a bar, or whatever shows how far work is."""

    def __call__(self, title: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
        """A bar for one piece of work.

        Args:
            title: what is being done.
            total: how many units there are; None where nobody can tell beforehand.
            unit: what is counted, in the plural.
        """


@contextmanager
def no_progress(title: str, total: int | None, unit: str) -> Iterator[Advance]:
    """Shows nothing."""
    yield lambda count: None
