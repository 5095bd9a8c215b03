"""A program as PoLar writes it: the layers cut into segments of at most four, each skipped, kept or repeated once.

Letters: ``D`` the model's depth, ``M`` programs that segments can express.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polar_env.program import MAX_BLOCK, Program

__all__ = ["OPERATIONS", "Segment", "express", "segments_of"]

OPERATIONS = 3
"""A segment is executed 0, 1 or 2 times."""


class Segment(NamedTuple):
    """``size`` layers from ``start`` on, executed ``times`` times."""

    start: int
    size: int
    times: int


def segments_of(program: Program, depth: int) -> tuple[Segment, ...] | None:
    """The one way to cut a program that PoLar's labels use: as few segments as can be, of these the fewest skips, then
    the most repeats, then the largest segments first; None for a program that no segments make.
    """
    layers = program.layers

    @cache
    def rest(start: int, done: int) -> tuple[Segment, ...] | None:
        """The best way to go on from a layer, where so many positions of the program are made."""
        if start == depth:
            return () if done == len(layers) else None
        ways = []
        for size in range(1, min(MAX_BLOCK, depth - start) + 1):
            block = tuple(range(start, start + size))
            for times in range(OPERATIONS):
                if layers[done : done + times * size] == block * times:
                    tail = rest(start + size, done + times * size)
                    if tail is not None:
                        ways.append((Segment(start, size, times), *tail))
        return min(ways, key=_order, default=None)

    return rest(0, 0)


def _order(way: tuple[Segment, ...]) -> tuple[int, int, int, tuple[int, ...]]:
    times = [segment.times for segment in way]
    return len(way), times.count(0), -times.count(2), tuple(-segment.size for segment in way)


def express(programs: Sequence[Program], depth: int) -> tuple[list[int], NDArray[np.float32], NDArray[np.float32]]:
    """The programs that segments can express.

    Returns:
        Their indices; whether a segment begins at each layer, ``[M, D]``; and what is done with the segment that begins
        there, ``[M, D, 3]``, zero where none begins.
    """
    cut = {i: way for i, program in enumerate(programs) if (way := segments_of(program, depth)) is not None}
    starts = np.zeros((len(cut), depth), np.float32)
    operations = np.zeros((len(cut), depth, OPERATIONS), np.float32)
    for row, way in enumerate(cut.values()):
        for segment in way:
            starts[row, segment.start] = 1
            operations[row, segment.start, segment.times] = 1
    return list(cut), starts, operations
