"""An adaptive block-loop router, after Block-Level Recursion: which blocks of layers run again, and how often.

Letters: ``B`` blocks with their number of runs, ``M`` programs that only repeat.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polar_env.program import Module, Program

__all__ = ["KIND", "express"]

KIND = "ablr"


def express(programs: Sequence[Program], depth: int) -> tuple[list[int], NDArray[np.float32]]:
    """The programs that only repeat: each block of them run once is the identity, which is one of them.

    Returns:
        Their indices, and whether each runs a block so often, ``[B, M]``; the identity's column is zero.
    """
    columns = [i for i, program in enumerate(programs) if _once(program) == list(range(depth))]
    loops = [[module for module in programs[i].modules if module.times > 1] for i in columns]
    known: list[Module] = list(dict.fromkeys(module for each in loops for module in each))
    runs = [[module in each for each in loops] for module in known]
    return columns, np.array(runs, np.float32).reshape(len(known), len(columns))


def _once(program: Program) -> list[int]:
    """The layers of a program's modules, each module run once."""
    return [layer for module in program.modules for layer in range(module.first, module.last + 1)]
