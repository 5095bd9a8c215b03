"""Programs as a tree of actions: which action leads where, in arrays, so that many lanes move at once.

Letters: ``D`` the model's depth, ``P`` programs, ``A`` actions, ``T`` nodes of the tree; node 0 is the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polar_env.errors import ConfigError
from polar_env.program import MAX_BLOCK, Program
from polar_env.worlds.reduction import kept_depth

__all__ = ["ProgramTree", "menu_tree", "segments_tree"]


@dataclass(frozen=True)
class ProgramTree:
    """Where actions lead.

    Attributes:
        child: the node behind each action, -1 where it is forbidden, ``intp [T, A]``.
        program: index of the program that is complete there, -1 where none is, ``intp [T]``.
        layers: layers executed by then, ``intp [T]``.
        seen: which of the kept depths is observed, ``intp [T]``.
        executions: how often each layer was executed by then, ``uint8 [T, D]``.
        cursor: the layer that would come next, ``intp [T]``.
        most_layers: of any program.
    """

    child: NDArray[np.intp]
    program: NDArray[np.intp]
    layers: NDArray[np.intp]
    seen: NDArray[np.intp]
    executions: NDArray[np.uint8]
    cursor: NDArray[np.intp]
    most_layers: int

    @property
    def n_actions(self) -> int:
        """How many actions ``A`` there are."""
        return int(self.child.shape[1])


def menu_tree(programs: Sequence[Program], depth: int, depths: Sequence[int], look: int) -> ProgramTree:
    """One decision: action ``a`` is program ``a``, chosen after some layers of the identity.

    A program that departs from the identity before that executes layers anew: they are paid as well.

    Args:
        programs: the programs.
        depth: the model's depth ``D``.
        depths: depths at which states are kept.
        look: layers of the identity that run before the choice, one of ``depths``.

    Raises:
        ConfigError: if no states are kept after ``look`` layers.
    """
    if look not in depths:
        raise ConfigError(f"look is {look}; states are kept after {', '.join(map(str, depths))} layers.")
    start = [list(range(look)), *(list(program.layers) for program in programs)]
    seen = depths.index(look)
    return ProgramTree(
        child=np.vstack([np.arange(1, len(start)), np.full((len(programs), len(programs)), -1)]).astype(np.intp),
        program=np.arange(-1, len(programs), dtype=np.intp),
        layers=np.array([look, *(program.layers_after(look) for program in programs)], np.intp),
        seen=np.full(len(start), seen, np.intp),
        executions=np.array([np.bincount(layers, minlength=depth) for layers in start], np.uint8),
        cursor=np.array([look, *[depth] * len(programs)], np.intp),
        most_layers=max(len(program) for program in programs) + look,
    )  # fmt: skip


def segments_tree(programs: Sequence[Program], depth: int, depths: Sequence[int]) -> ProgramTree:
    """`SegmentsLanguage`, and of its spellings those of the given programs; what it cannot spell is left out.

    Args:
        programs: the programs.
        depth: the model's depth ``D``.
        depths: depths at which states are kept.
    """
    numbers: dict[tuple[tuple[int, ...], int], int] = {((), 0): 0}
    edges: dict[tuple[int, int], int] = {}
    complete: dict[int, int] = {}
    for index, program in enumerate(programs):
        spelt = _spelling(program.layers, depth)
        for (done, cursor), actions in spelt.items():
            node = numbers.setdefault((program.layers[:done], cursor), len(numbers))
            for action, (then, further) in actions.items():
                key = (program.layers[:then], further)
                edges[node, action] = numbers.setdefault(key, len(numbers))
                if further == depth:
                    complete[numbers[key]] = index
    child = np.full((len(numbers), 3 * MAX_BLOCK), -1, np.intp)
    for (node, action), target in edges.items():
        child[node, action] = target
    program_at = np.full(len(numbers), -1, np.intp)
    program_at[list(complete)] = list(complete.values())
    executed = [layers for layers, _ in numbers]
    return ProgramTree(
        child=child,
        program=program_at,
        layers=np.array([len(layers) for layers in executed], np.intp),
        seen=np.array([kept_depth(depths, layers) for layers in executed], np.intp),
        executions=np.array([np.bincount(layers, minlength=depth) for layers in executed], np.uint8),
        cursor=np.array([cursor for _, cursor in numbers], np.intp),
        most_layers=max(len(program) for program in programs),
    )


Place = tuple[int, int]
"""Layers of the program that are executed, and the cursor."""


def _spelling(layers: tuple[int, ...], depth: int) -> dict[Place, dict[int, Place]]:
    """All ways to spell a program: at each place the actions that lead on to its end; empty where there is none."""
    ways: dict[Place, dict[int, Place] | None] = {}

    def follow(done: int, cursor: int) -> bool:
        if cursor == depth:
            return done == len(layers)
        place = (done, cursor)
        if place not in ways:
            ways[place] = None
            onward = {
                action: target
                for action, target in _moves(layers, done, cursor, depth)
                if follow(*target)
            }  # fmt: skip
            ways[place] = onward or None
        return ways[place] is not None

    follow(0, 0)
    return {place: actions for place, actions in ways.items() if actions}


def _moves(layers: tuple[int, ...], done: int, cursor: int, depth: int) -> list[tuple[int, Place]]:
    """Actions of `SegmentsLanguage` that a program may go on with, and where they lead."""
    moves = []
    skippable = (layers[done] if done < len(layers) else depth) - cursor
    for length in range(1, min(MAX_BLOCK, depth - cursor) + 1):
        block, further = tuple(range(cursor, cursor + length)), cursor + length
        if length <= skippable and (further < depth or done):
            moves.append((length - 1, (done, further)))
        for times in (1, 2):
            then = done + times * length
            if layers[done:then] == block * times:
                moves.append((MAX_BLOCK * times + length - 1, (then, further)))
    return moves
