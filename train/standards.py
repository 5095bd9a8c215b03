"""How learners read numbers that differ in size: centred, and divided by one scale for all of a kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["standards_of"]


def standards_of(numbers: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centre and scale by which numbers are read as ``(numbers - centre) / scale``.

    Args:
        numbers: ``[Q, X]``: ``X`` numbers of each of ``Q`` questions.

    Returns:
        The mean, ``[X]``, and the mean deviation, ``[1]``: one for all, so that leading components stay the larger
        ones; 1 where nothing deviates.
    """
    return numbers.mean(0), np.array([numbers.std(0).mean() or 1.0], np.float32)
