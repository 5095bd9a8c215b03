"""The program predictor: the value model and what PPO found to be wrong with it, at every price of layers.

A small network corrects the predicted values; where it is zero, this is the value agent. The price of layers is one of
its inputs, so that one agent is the whole curve of accuracy over cost.

Letters: ``N`` asks, ``M`` programs of the menu, ``O`` numbers of an observation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.card import AgentCard
from agents.perceptron import Perceptron
from agents.reading import Arrays, read_weights
from agents.value import WEIGHTS, ValueAgent, load_value
from polar_env.worlds import AskWorld

__all__ = ["KIND", "PredictorAgent", "correction_inputs", "load_predictor"]

KIND = "predictor"
Array = NDArray[np.float32]


def correction_inputs(price: float | Array, observations: Array, values: Array) -> Array:
    """What the correction reads, ``float32 [N, 1 + O + M]``: the price of D layers, the state, the predicted values."""
    prices = np.broadcast_to(np.asarray(price, np.float32).reshape(-1, 1), (len(observations), 1))
    return np.concatenate([prices, observations, values], axis=1, dtype=np.float32)


class PredictorAgent(ValueAgent):
    """A value agent whose values a network corrects.

    Args:
        correction: what is added to the values, ``[N, M]``, given `correction_inputs`.
        most_price: the highest price that it was trained at; at higher ones it answers as at this one.
        settings: those of `ValueAgent`.
    """

    def __init__(self, *settings: Any, correction: Perceptron, most_price: float, **named: Any) -> None:
        super().__init__(*settings, **named)
        self.correction, self.most_price = correction, most_price

    @classmethod
    def on(cls, agent: ValueAgent, correction: Perceptron, most_price: float) -> PredictorAgent:
        """The predictor that starts from a value agent."""
        return cls(
            agent.world, agent.programs, agent.model, look=agent.look, price=agent.price, most_doubt=agent.most_doubt,
            calibration=agent.calibration, name=agent.name, correction=correction, most_price=most_price,
        )  # fmt: skip

    def values(self, observations: Array) -> Array:
        """The corrected values, ``[N, M]``."""
        values = super().values(observations)
        inputs = correction_inputs(min(self.price, self.most_price), observations, values)
        return values + self.correction.scores(inputs)

    @property
    def flops(self) -> float:
        """Floating-point operations of one decision."""
        return super().flops + self.correction.flops

    def arrays(self) -> Arrays:
        """The arrays of which it is made again; see `load_predictor`."""
        return super().arrays() | self.correction.arrays()

    def settings(self) -> dict[str, object]:
        """What its card's ``config`` holds; see `load_predictor`."""
        return super().settings() | {"most_price": self.most_price}


def load_predictor(folder: Path, card: AgentCard, world: AskWorld) -> PredictorAgent:
    """A saved predictor: a saved value agent, see `load_value`, with the correction among its weights.

    Raises:
        ConfigError: if the card lacks a setting.
        FingerprintError: if the card names no hash of the weights, or the world reduces states in another way.
    """
    correction = Perceptron.of(read_weights(folder, card, WEIGHTS))
    return PredictorAgent.on(load_value(folder, card, world), correction, float(card.setting("most_price")))
