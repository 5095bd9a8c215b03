"""Dr.LLM (Heakl et al. 2025, arXiv 2510.12773): a router for each layer says skip, execute or repeat.

Letters: ``D`` the model's depth, ``M`` programs that routers can express.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from polar_env.program import Program

__all__ = ["KIND", "express"]

KIND = "drllm"
_MOST = 2
"""Executions of a layer: 0 skips it, 1 executes, 2 repeats."""


def express(programs: Sequence[Program], depth: int) -> tuple[list[int], NDArray[np.float32]]:
    """The programs that routers can express: layers in order, none more than twice.

    Returns:
        Their indices, and the choices of each: column ``m`` has a one for each layer's choice, ``[D * 3, M]``.
    """
    columns = [
        i
        for i, program in enumerate(programs)
        if list(program.layers) == sorted(program.layers) and max(program.executions(depth)) <= _MOST
    ]
    counts = np.array([programs[i].executions(depth) for i in columns])  # [M, D]
    return columns, np.eye(_MOST + 1, dtype=np.float32)[counts].reshape(len(columns), -1).T.copy()
