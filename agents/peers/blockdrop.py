"""BlockDrop (Wu et al. 2018, arXiv 1711.08393): one look, then each layer is kept or dropped by a Bernoulli draw.

A program's log-probability is the sum of the logits of the layers that it keeps, plus what all programs have in common.

Letters: ``D`` the model's depth, ``M`` programs that keep or drop.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polar_env.program import Program

__all__ = ["KIND", "express"]

KIND = "blockdrop"


def express(programs: Sequence[Program], depth: int) -> tuple[list[int], NDArray[np.float32]]:
    """The programs that only drop: layers in order, none twice.

    Returns:
        Their indices, and whether each keeps a layer, ``[D, M]``.
    """
    columns = [i for i, program in enumerate(programs) if list(program.layers) == sorted(set(program.layers))]
    return columns, np.array([programs[i].executions(depth) for i in columns], np.float32).T.copy()
