"""The value model: from the LLM's hidden states after a few layers to what every program is worth on the question.

A kernel ridge regression (Saunders et al. 1998) whose targets are a menu of programs. Far from all asks that it has
seen its prediction is each program's mean, so that the best static program of the menu is chosen there.

Letters: ``N`` asks, ``M`` programs of the menu, ``O`` numbers of an observation, ``T`` asks that it was fitted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save
from scipy.special import expit

from agents.base import Decision
from agents.card import AgentCard
from polar_env.errors import ConfigError, FingerprintError
from polar_env.program import Program
from polar_env.questions import Ask
from polar_env.worlds import AskWorld, RecordedAsks, ReducedAsks, Reduction

__all__ = ["KIND", "WEIGHTS", "ValueAgent", "ValueModel", "load_value"]

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
    """

    support: Array
    weights: Array
    means: Array
    width: float

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
        return cls(observations.astype(np.float32), weights.astype(np.float32), means.astype(np.float32), width)

    def predict(self, observations: Array) -> Array:
        """What each program is worth on each ask, ``[N, M]``."""
        kernel = np.exp(-_squared_distances(observations, self.support) / self.width)
        values: Array = (kernel @ self.weights + self.means).astype(np.float32)
        return values

    @property
    def flops(self) -> float:
        """Floating-point operations of one ask's prediction."""
        return 2.0 * (self.support.size + self.weights.size)


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


class ValueAgent:
    """Runs the first layers of the identity, predicts what each program of a menu is worth, and chooses.

    Args:
        world: executes; its observations are reduced as those that the model was fitted on.
        programs: the menu.
        model: predicts what they are worth.
        look: layers of the identity that run before the choice.
        price: value that ``D`` layers must add; 0 does not count layers.
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
        calibration: Calibration,
        name: str = KIND,
    ) -> None:
        self.world, self.programs, self.model = world, list(programs), model
        self.look, self.price, self.calibration, self.name = look, price, calibration, name
        executed = np.array([program.layers_after(look) for program in programs])
        self.unused = executed - np.array([len(program) for program in programs])
        self.costs = executed / world.depth

    def at_price(self, price: float) -> ValueAgent:
        """The same agent at another price: the dial between accuracy and cost."""
        return ValueAgent(
            self.world, self.programs, self.model, look=self.look, price=price, calibration=self.calibration,
            name=f"{self.name}@{price:g}",
        )  # fmt: skip

    def decide(self, asks: Sequence[Ask]) -> list[Decision]:
        """The programs of the menu, the one of largest value minus price first."""
        start = self.world.identity.layers[: self.look]
        values = self.model.predict(self.world.observations([(ask, start) for ask in asks]))  # [N, M]
        orders = np.argsort(-(values - self.price * self.costs), axis=1, kind="stable")
        probabilities = self.calibration(values)
        return [
            Decision(
                tuple(self.programs[i] for i in order),
                tuple(float(row[i]) for i in order),
                layers=int(self.unused[order[0]]),
                flops=self.model.flops,
            )
            for order, row in zip(orders, probabilities, strict=True)
        ]

    def saved(self, reduction: Reduction) -> dict[str, bytes]:
        """The files beside its card; see `load_value`.

        Args:
            reduction: that of its world, at the depth where it looks alone.
        """
        arrays = {name: getattr(self.model, name) for name in ("support", "weights", "means")}
        kept = {f"reduction.{name}": array for name, array in reduction.arrays().items()}
        return {WEIGHTS: save(arrays | kept)}

    def settings(self) -> dict[str, object]:
        """What its card's ``config`` holds; see `load_value`."""
        return {
            "programs": [str(program) for program in self.programs],
            "look": self.look,
            "price": self.price,
            "width": self.model.width,
            "calibration": asdict(self.calibration),
        }


def load_value(folder: Path, card: AgentCard, world: AskWorld) -> ValueAgent:
    """A saved value agent: its card's ``config`` is `ValueAgent.settings`, its weights lie beside the card.

    Raises:
        ConfigError: if the card lacks a setting.
        FingerprintError: if the card names no hash of the weights.
    """
    if WEIGHTS not in card.weights:
        raise FingerprintError(f"the card in {folder} names no sha256 of {WEIGHTS}. Train the agent again.")
    arrays = load_file(folder / WEIGHTS)
    look = int(card.setting("look"))
    reduction = Reduction.of([look], {name: arrays[f"reduction.{name}"] for name in ("means", "bases")})
    return ValueAgent(
        _reduced(world, reduction, folder),
        [Program.parse(text, world.depth) for text in card.setting("programs")],
        ValueModel(arrays["support"], arrays["weights"], arrays["means"], float(card.setting("width"))),
        look=look,
        price=float(card.setting("price")),
        calibration=Calibration(**card.setting("calibration")),
        name=card.name,
    )


def _reduced(world: AskWorld, reduction: Reduction, folder: Path) -> AskWorld:
    """A world whose observations are those that the model was fitted on; a recorded one reduces by itself."""
    if not isinstance(world, RecordedAsks):
        return ReducedAsks(world, reduction)
    (look,) = reduction.depths
    if look in world.reduction.depths and world.reduction.at(look).equals(reduction):
        return world
    raise FingerprintError(
        f"the agent in {folder} reads states reduced in another way than those of '{world.card.name}'. Use the world "
        "that it was trained on, or execute live."
    )
