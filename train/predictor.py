"""From a recorded world to the program predictor: PPO that starts from the value model.

Proximal policy optimisation (Schulman et al. 2017) on one-step episodes. It starts as the value agent and is held near
it; during training each question's values come from models that have not seen it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO

from agents.predictor import KIND, PredictorAgent
from agents.value import ValueAgent, ranked
from polar_env.errors import NonFiniteError
from polar_env.tracking import tracker
from polar_env.worlds import RecordedWorld
from train.config import PredictorConfig
from train.crossfit import CrossFitted, cross_fitted
from train.judged import train_judged
from train.priced_menu import PricedMenu
from train.prior_policy import PriorPolicy
from train.tracking import sb3_logger
from train.value import calibrate

__all__ = ["NAME", "fit_predictor", "improve", "train_predictor"]

NAME = "ppo"


def train_predictor(world: RecordedWorld, folder: Path, config: PredictorConfig, seed: int = 0) -> Path:
    """Train on the train and validation questions of a world; see `train_judged`.

    Args:
        world: the world.
        folder: gets ``agents/ppo`` and the best static programs.
        config: the settings.
        seed: of folds, networks and draws.
    """

    def fit(split: str) -> PredictorAgent:
        return fit_predictor(world, world.rows(split), config, seed)

    return train_judged(world, folder, KIND, NAME, config, seed, fit)


def fit_predictor(world: RecordedWorld, rows: NDArray[np.intp], config: PredictorConfig, seed: int) -> PredictorAgent:
    """A predictor from some questions.

    Args:
        world: the world.
        rows: rows of the questions.
        config: the settings.
        seed: of folds, networks and draws.
    """
    fitted, value = cross_fitted(world, rows, config.value, seed), config.value
    correction = improve(fitted, config, seed).networks.correction()
    # Calibrated on values out of fold alone: the correction has seen the verdicts of these questions.
    best = ranked(fitted.values, fitted.doubt, fitted.costs, value.price, value.most_doubt)[:, 0]
    questions = np.arange(len(rows))
    start = ValueAgent(
        world.asks, [world.programs[column] for column in fitted.menu], fitted.model, look=value.look,
        price=value.price, most_doubt=value.most_doubt, name=NAME,
        calibration=calibrate(fitted.values[questions, best].astype(float), fitted.right[questions, best]),
    )  # fmt: skip
    return PredictorAgent.on(start, correction, config.most_price)


def improve(fitted: CrossFitted, config: PredictorConfig, seed: int) -> PriorPolicy:
    """Start from the value model and improve by PPO.

    Args:
        fitted: the questions.
        config: the settings.
        seed: of networks and draws.
    """
    env = PricedMenu(fitted, config.lanes, most_price=config.most_price, most_doubt=config.value.most_doubt)
    networks = {
        "fitted": fitted, "most_price": config.most_price, "sharpness": config.sharpness, "hidden": config.hidden
    }  # fmt: skip
    model = MaskablePPO(
        PriorPolicy, env, learning_rate=config.learning_rate, n_steps=config.steps, batch_size=config.batch_size,
        n_epochs=config.epochs, clip_range=config.clip, normalize_advantage=False, seed=seed, device="cpu",
        ent_coef=1.0,  # see PriorPolicy: the divergence stands there, and has its own weight
        policy_kwargs={"networks": networks, "kl": config.kl},
    )  # fmt: skip
    model.set_logger(sb3_logger(tracker().last_step))  # it is fitted twice: see train_judged
    if config.total_steps:
        model.learn(config.total_steps)
    policy = model.policy
    assert isinstance(policy, PriorPolicy)
    if not all(bool(torch.isfinite(weights).all()) for weights in policy.parameters()):
        raise NonFiniteError(
            f"PPO's weights are not finite after {config.total_steps} steps; nothing was saved. Take smaller steps "
            f"(learning_rate is {config.learning_rate})."
        )
    policy.set_training_mode(False)
    return policy
