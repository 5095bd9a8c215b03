"""How a program departs from the normal pass, change by change.

Letters: ``D`` the model's depth.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

from polar_env.errors import ProgramError
from polar_env.program import Program

__all__ = ["Change", "changes_of", "combined", "kind_of", "with_changes"]

Change = tuple[int, int, tuple[int, ...]]
"""Layers ``start`` to ``end`` (exclusive) of the normal pass, and what is executed in their place."""


def changes_of(program: Program, depth: int) -> list[Change]:
    """Where a program departs from the identity of depth ``D``, from left to right; nothing for the identity.

    Layers that are left out and layers that come in at the same place are two changes.
    """
    changes: list[Change] = []
    for tag, a, b, c, d in SequenceMatcher(None, range(depth), program.layers, autojunk=False).get_opcodes():
        if tag in ("insert", "replace"):
            changes.append((a, a, program.layers[c:d]))
        if tag in ("delete", "replace"):
            changes.append((a, b, ()))
    return changes


def with_changes(changes: Iterable[Change], depth: int) -> Program | None:
    """The identity with some changes made; None where two of them touch the same layers or nothing is left."""
    layers: list[int] = []
    at, last = 0, None
    for start, end, instead in sorted(changes):
        if start < at or (start, end) == last:
            return None
        layers += [*range(at, start), *instead]
        at, last = end, (start, end)
    try:
        return Program((*layers, *range(at, depth)))
    except ProgramError:
        return None


def combined(first: Program, second: Program, depth: int) -> Program | None:
    """A program that departs from the identity where either of two does; None where they touch the same layers."""
    return with_changes([*changes_of(first, depth), *changes_of(second, depth)], depth)


def kind_of(program: Program, depth: int) -> str:
    """``identity``, ``skip only``, ``repeat only``, ``both``, or ``order`` for the same layers in another order."""
    executions = program.executions(depth)
    skips, repeats = min(executions) == 0, max(executions) > 1
    if skips or repeats:
        return "both" if skips and repeats else "skip only" if skips else "repeat only"
    return "identity" if program == Program.identity(depth) else "order"
