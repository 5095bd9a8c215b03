"""The value model: from the LLM's hidden states after a few layers to what every program is worth on the question.

A kernel ridge regression (Saunders et al. 1998) whose targets are a menu of programs. How little it knows of an ask is
the variance of the Gaussian process with the same kernel (Rasmussen and Williams 2006, chapter 2.2): where that is
large, the identity answers.

Letters: ``N`` asks, ``M`` programs of the menu, ``O`` numbers of an observation, ``T`` asks that it was fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from scipy import linalg
from scipy.special import expit

from agents.base import Decision
from agents.card import AgentCard
from agents.explaining import Option, Step
from agents.reading import Arrays, read_weights, reading_world, saved_reduction
from polar_env.errors import ConfigError
from polar_env.program import Program
from polar_env.questions import Ask
from polar_env.worlds import AskWorld, Reduction

__all__ = ["KIND", "WEIGHTS", "ValueAgent", "ValueModel", "load_value", "ranked"]

KIND, WEIGHTS = "value", "value.safetensors"
Array = NDArray[np.float32]


@dataclass(frozen=True)
class ValueModel:
    """A fitted regression.

    Attributes:
        support: observations that it was fitted on, ``float32 [T, O]``.
        weights: of each of them for each program, ``float32 [T, M]``.
        means: mean target of each program, ``float32 [M]``.
        width: the kernel is ``exp(-distance ** 2 / width)``.
        ridge: what was added to the kernel's diagonal.
    """

    support: Array
    weights: Array
    means: Array
    width: float
    ridge: float

    @classmethod
    def fit(cls, observations: Array, targets: NDArray[np.float64], *, ridge: float, scale: float) -> ValueModel:
        """Fit the regression.

        Args:
            observations: ``[T, O]``.
            targets: what each program is worth on each ask, ``[T, M]``.
            ridge: added to the kernel's diagonal.
            scale: the kernel's width as a multiple of the median squared distance between two asks.

        Raises:
            ConfigError: for fewer than two observations, or where all are alike.
        """
        if len(observations) < 2:
            raise ConfigError(f"{len(observations)} observations are too few; a value model wants two or more.")
        squares = _squared_distances(observations, observations)
        width = scale * float(np.median(squares[~np.eye(len(squares), dtype=bool)]))
        if width <= 0:
            raise ConfigError(f"all {len(observations)} observations are alike; a value model has nothing to read.")
        means = targets.mean(0)
        kernel = np.exp(-squares / width) + ridge * np.eye(len(squares))
        weights = np.linalg.solve(kernel, targets - means)
        return cls(observations.astype(np.float32), weights.astype(np.float32), means.astype(np.float32), width, ridge)

    def predict(self, observations: Array) -> Array:
        """What each program is worth on each ask, ``[N, M]``."""
        values: Array = (self._kernel(observations, self.support) @ self.weights + self.means).astype(np.float32)
        return values

    def doubt(self, observations: Array) -> NDArray[np.float64]:
        """How little is known about asks, ``[N]``: 0 where it was fitted on many alike, 1 far from all of them."""
        near = self._kernel(observations, self.support)
        return np.asarray(1.0 - (near * linalg.cho_solve(self._factor, near.T).T).sum(1))

    @cached_property
    def _factor(self) -> tuple[NDArray[np.float64], bool]:
        kernel = self._kernel(self.support, self.support) + self.ridge * np.eye(len(self.support))
        factor, lower = linalg.cho_factor(kernel)
        return factor, lower

    def _kernel(self, a: Array, b: Array) -> NDArray[np.float64]:
        return np.asarray(np.exp(-_squared_distances(a, b) / self.width))

    @property
    def flops(self) -> float:
        """Floating-point operations of one ask's prediction and doubt."""
        return 2.0 * (self.support.size + self.weights.size + len(self.support) ** 2)


def _squared_distances(a: Array, b: Array) -> NDArray[np.float64]:
    """``[N, T]``"""
    products = a.astype(np.float64) @ b.astype(np.float64).T
    squares = (a.astype(np.float64) ** 2).sum(1)[:, None] + (b.astype(np.float64) ** 2).sum(1) - 2 * products
    return np.asarray(np.maximum(squares, 0.0))


@dataclass(frozen=True)
class Calibration:
    """From a predicted value to the probability that the program is right: a logistic function (Platt 1999)."""

    slope: float
    intercept: float

    def __call__(self, values: Array) -> NDArray[np.float64]:
        probabilities: NDArray[np.float64] = expit(self.slope * values.astype(np.float64) + self.intercept)
        return probabilities


def ranked(
    values: Array, doubt: NDArray[np.float64], costs: NDArray[np.float64], price: float, most_doubt: float
) -> NDArray[np.intp]:
    """The programs of a menu, best first, ``[N, M]``.

    Args:
        values: what each is worth on each ask, ``[N, M]``.
        doubt: how little is known about each ask, ``[N]``.
        costs: executed layers / D of each program, ``[M]``.
        price: value that ``D`` layers must add.
        most_doubt: above it the identity, program 0, comes first.
    """
    worth = values - price * costs
    worth[doubt > most_doubt, 0] = np.inf
    return np.argsort(-worth, axis=1, kind="stable")


class ValueAgent:
    """Runs the first layers of the identity, predicts what each program of a menu is worth, and chooses.

    Args:
        world: executes; its observations are reduced as those that the model was fitted on.
        programs: the menu, the identity first.
        model: predicts what they are worth.
        look: layers of the identity that run before the choice.
        price: value that ``D`` layers must add; 0 does not count layers.
        most_doubt: where the model's doubt is larger, the identity answers.
        calibration: makes confidences of values.
        name: name of the row in a report.
    """

    def __init__(
        self,
        world: AskWorld,
        programs: Sequence[Program],
        model: ValueModel,
        *,
        look: int,
        price: float,
        most_doubt: float,
        calibration: Calibration,
        name: str = KIND,
    ) -> None:
        self.world, self.programs, self.model = world, list(programs), model
        self.look, self.price, self.most_doubt, self.calibration, self.name = look, price, most_doubt, calibration, name
        executed = np.array([program.layers_after(look) for program in programs])
        self.unused = executed - np.array([len(program) for program in programs])
        self.costs = executed / world.depth

    def at_price(self, price: float) -> Self:
        """The same agent at another price: the dial between accuracy and cost."""
        priced = copy(self)
        priced.price, priced.name = price, f"{self.name}@{price:g}"
        return priced

    def decide(self, asks: Sequence[Ask]) -> list[Decision]:
        """The programs of the menu; see `ranked`."""
        start = self.world.identity.layers[: self.look]
        observations = self.world.observations([(ask, start) for ask in asks])
        values = self.values(observations)  # [N, M]
        orders = ranked(values, self.model.doubt(observations), self.costs, self.price, self.most_doubt)
        probabilities = self.calibration(values)
        return [
            Decision(
                tuple(self.programs[i] for i in order),
                tuple(float(row[i]) for i in order),
                layers=int(self.unused[order[0]]),
                flops=self.flops,
            )
            for order, row in zip(orders, probabilities, strict=True)
        ]

    def explain(self, ask: Ask, most: int = 8) -> list[Step]:
        """Its one decision; see `agents.explaining`."""
        (decision,) = self.decide([ask])
        doubt = float(self.model.doubt(self.world.observations([(ask, self.world.identity.layers[: self.look])]))[0])
        saw = f"the state after {self.look} layers of the identity; price of D layers {self.price:g}; doubt {doubt:.2f}"
        if doubt > self.most_doubt:
            saw += f", more than {self.most_doubt:g}, so the identity answers"
        executed = {program: program.layers_after(self.look) for program in decision.programs[:most]}
        return [
            Step(
                saw,
                tuple(
                    Option(str(program), float(confidence or 0.0), executed[program])
                    for program, confidence in zip(decision.programs[:most], decision.confidences, strict=False)
                ),
            )
        ]

    def values(self, observations: Array) -> Array:
        """What each program of the menu is worth, ``[N, M]``, from observations ``[N, O]``."""
        return self.model.predict(observations)

    @property
    def flops(self) -> float:
        """Floating-point operations of one decision."""
        return self.model.flops

    def arrays(self) -> Arrays:
        """The arrays of which it is made again; see `load_value`."""
        return {name: getattr(self.model, name) for name in ("support", "weights", "means")}

    def saved(self, reduction: Reduction) -> dict[str, bytes]:
        """The files beside its card; see `load_value`.

        Args:
            reduction: that of its world, at the depth where it looks alone.
        """
        return {WEIGHTS: save(self.arrays() | saved_reduction(reduction))}

    def settings(self) -> dict[str, object]:
        """What its card's ``config`` holds; see `load_value`."""
        return {
            "programs": [str(program) for program in self.programs],
            "look": self.look,
            "price": self.price,
            "most_doubt": self.most_doubt,
            "width": self.model.width,
            "ridge": self.model.ridge,
            "calibration": asdict(self.calibration),
        }


def load_value(folder: Path, card: AgentCard, world: AskWorld) -> ValueAgent:
    """A saved value agent: its card's ``config`` is `ValueAgent.settings`, its weights lie beside the card.

    Raises:
        ConfigError: if the card lacks a setting.
        FingerprintError: if the card names no hash of the weights, or the world reduces states in another way.
    """
    arrays, look = read_weights(folder, card, WEIGHTS), int(card.setting("look"))
    return ValueAgent(
        reading_world(world, look, arrays, folder),
        [Program.parse(text, world.depth) for text in card.setting("programs")],
        ValueModel(
            arrays["support"],
            arrays["weights"],
            arrays["means"],
            float(card.setting("width")),
            float(card.setting("ridge")),
        ),
        look=look,
        price=float(card.setting("price")),
        most_doubt=float(card.setting("most_doubt")),
        calibration=Calibration(**card.setting("calibration")),
        name=card.name,
    )
