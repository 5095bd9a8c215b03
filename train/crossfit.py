"""Predictions of the value model for the questions that it learned from, each by models that saw neither it nor a twin.

What a regression says of questions that it was fitted on is too good, and whoever learned from that would trust it.

Letters: ``Q`` questions, ``M`` programs of the menu, ``O`` numbers of an observation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.value import ValueModel
from polar_env.worlds import RecordedWorld
from train.config import ValueConfig
from train.value import choose_menu, menu_costs, observations_of, targets_of, twin_folds

__all__ = ["CrossFitted", "cross_fitted"]


@dataclass(frozen=True)
class CrossFitted:
    """What is known of the questions to learn from.

    Attributes:
        menu: columns of the world.
        model: the value model of all questions.
        observations: ``float32 [Q, O]``.
        values: what models that were not fitted on a question or its twins predict for it, ``float32 [Q, M]``.
        doubt: their doubt, ``[Q]``.
        right: verdicts, ``bool [Q, M]``.
        worth: what the models learned, see `targets_of`, ``[Q, M]``.
        costs: executed layers / D, ``[M]``.
    """

    menu: list[int]
    model: ValueModel
    observations: NDArray[np.float32]
    values: NDArray[np.float32]
    doubt: NDArray[np.float64]
    right: NDArray[np.bool_]
    worth: NDArray[np.float64]
    costs: NDArray[np.float64]


def cross_fitted(world: RecordedWorld, rows: NDArray[np.intp], config: ValueConfig, seed: int) -> CrossFitted:
    """Fit the value model, and predict each question by models of the other folds.

    Args:
        world: the world; it holds texts.
        rows: rows of the questions ``Q``.
        config: the value model's settings.
        seed: of the folds.
    """
    targets, costs = targets_of(world, rows, config), menu_costs(world, config.look)
    menu = choose_menu(targets, costs, config.menu, config.menu_price)
    worth, observations = targets[:, menu], observations_of(world, rows, config.look)
    fold = twin_folds(world, rows, config.folds, np.random.default_rng(seed))
    values, doubt = np.zeros(worth.shape, np.float32), np.zeros(len(rows))
    for each in np.unique(fold):
        inside, outside = fold != each, fold == each
        model = ValueModel.fit(observations[inside], worth[inside], ridge=config.ridge, scale=config.scale)
        values[outside], doubt[outside] = model.predict(observations[outside]), model.doubt(observations[outside])
    whole = ValueModel.fit(observations, worth, ridge=config.ridge, scale=config.scale)
    right = world.arrays["right"][rows][:, menu]
    return CrossFitted(menu, whole, observations, values, doubt, right, worth, costs[menu])
