"""A value model of shared programs: from a question's early hidden state to the expected reward of each program.

Single verdicts are mostly luck, and imitating them collapses to the identity. A ridge regression over the whole verdict
matrix, right and wrong, keeps what generalises; predicting every question from the other questions only (cross-fitting)
keeps it honest.

Axis letters: ``Q`` questions, ``F`` features, ``M`` programs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve

__all__ = ["choose_programs", "cross_fitted", "ridge"]

Array = NDArray[np.float64]


def ridge(features: Array, targets: Array, penalty: float) -> tuple[Array, Array, Array]:
    """Ridge regression in its dual form, since there are fewer questions than features.

    Args:
        features: ``[Q, F]``.
        targets: ``[Q, M]``.
        penalty: the ridge constant, in units of the mean squared norm of the standardised features.

    Returns:
        Centre ``[F]`` and weights ``[F, M]`` (for features minus centre), and the targets' means ``[M]``.
    """
    centre, means = features.mean(0), targets.mean(0)
    x = features - centre
    gram = x @ x.T  # [Q, Q]
    gram[np.diag_indices_from(gram)] += penalty * np.trace(gram) / len(gram)
    return centre, x.T @ solve(gram, targets - means, assume_a="pos"), means


def cross_fitted(features: Array, targets: Array, penalty: float, folds: int = 8, seed: int = 0) -> Array:
    """Predictions ``[Q, M]`` in which no question has seen its own verdicts."""
    features = (features - features.mean(0)) / (features.std(0) + 1e-3)
    fold_of = np.random.default_rng(seed).permutation(len(features)) % min(folds, len(features))
    predictions = np.empty_like(targets)
    for fold in range(min(folds, len(features))):
        held_out = fold_of == fold
        centre, weights, means = ridge(features[~held_out], targets[~held_out], penalty)
        predictions[held_out] = (features[held_out] - centre) @ weights + means
    return predictions


def choose_programs(advantages: Array, margin: float) -> NDArray[np.int64]:
    """For each question the program of largest predicted advantage, or the identity where none reaches the margin.

    Args:
        advantages: predicted reward minus the identity's, ``[Q, M]``; column 0 is the identity and all 0.
        margin: least advantage for which the identity is left.
    """
    best = advantages.argmax(1)
    return np.where(advantages.max(1) > margin, best, 0)
