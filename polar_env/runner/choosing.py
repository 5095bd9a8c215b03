"""While a program is chosen nobody may look at a verdict: a verdict knows the gold answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from polar_env.errors import LeakError

__all__ = ["no_verdicts_for", "refuse_while_choosing"]

_CHOOSING: ContextVar[str | None] = ContextVar("_CHOOSING", default=None)
"""Who chooses a program right now."""


@contextmanager
def no_verdicts_for(name: str) -> Iterator[None]:
    """While it is open, asking a store, a runner or a recorded world for a verdict raises a LeakError.

    Args:
        name: who chooses programs or answers meanwhile.
    """
    token = _CHOOSING.set(name)
    try:
        yield
    finally:
        _CHOOSING.reset(token)


def refuse_while_choosing(source: str) -> None:
    """Called by whatever gives verdicts.

    Args:
        source: what gives them, for the message.

    Raises:
        LeakError: inside of `no_verdicts_for`.
    """
    name = _CHOOSING.get()
    if name is not None:
        raise LeakError(
            f"'{name}' read verdicts from {source} while it chose programs; a verdict knows the gold answer. An agent "
            "may see asks and what the LLM computes on them, nothing else."
        )
