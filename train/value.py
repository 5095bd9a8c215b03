"""From a recorded world to a value agent: which programs stand on its menu, the regression, and its calibration.

Letters: ``Q`` questions, ``P`` programs of the world, ``M`` programs of the menu.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from agents.card import save_agent
from agents.value import KIND, Calibration, ValueAgent, ValueModel, ranked
from polar_env.errors import ConfigError
from polar_env.questions import twin_hash
from polar_env.worlds import RecordedWorld
from train.baselines import save_static_programs
from train.config import ValueConfig
from train.provenance import card_from_world
from train.static import StaticChoice, static_of_world

__all__ = [
    "OutOfFold",
    "TrainedValue",
    "choose_menu",
    "fit_value",
    "held_out",
    "observations_of",
    "out_of_fold",
    "train_value",
    "twin_folds",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OutOfFold:
    """What the value agent is worth on questions that it was not fitted on, by cross-validation.

    Attributes:
        questions: rows of the world.
        chosen: the program chosen for each, a column of the world, ``[Q]``.
        right: whether it is right, ``bool [Q]``.
        costs: executed layers / D, those before the choice included, ``[Q]``.
        static: the best static program of the other folds, ``[Q]``.
        static_right: whether that is right, ``bool [Q]``.
        values: predicted value of the chosen program, ``[Q]``.
    """

    questions: NDArray[np.intp]
    chosen: NDArray[np.intp]
    right: NDArray[np.bool_]
    costs: Array
    static: NDArray[np.intp]
    static_right: NDArray[np.bool_]
    values: Array

    def part(self, chosen: NDArray[np.bool_]) -> OutOfFold:
        """Some of the questions."""
        return OutOfFold(*(getattr(self, field.name)[chosen] for field in fields(self)))


@dataclass(frozen=True)
class TrainedValue:
    """What training made.

    Attributes:
        folder: holds one folder for each agent.
        out_of_fold: see `OutOfFold`.
        static: the best static programs.
    """

    folder: Path
    out_of_fold: OutOfFold
    static: StaticChoice


def targets_of(world: RecordedWorld, rows: NDArray[np.intp], config: ValueConfig) -> Array:
    """What programs are worth on questions, ``[Q, P]``: a mean of verdict and probability of the gold answer.

    A verdict is one bit; the probability says how near it was, and is worth about a point of pass@1.
    """
    right = world.arrays["right"][rows].astype(float)
    probability = np.exp(world.arrays["log_prob"][rows].astype(float))
    return np.asarray(config.verdict_share * right + (1 - config.verdict_share) * probability)


def menu_costs(world: RecordedWorld, look: int) -> Array:
    """Executed layers / D of each program when it is chosen after some layers of the identity, ``[P]``.

    Raises:
        ConfigError: if no states are kept after so many layers.
    """
    if look not in world.card.depths:
        kept = ", ".join(map(str, world.card.depths))
        raise ConfigError(f"look is {look}; '{world.card.name}' keeps states after {kept} layers.")
    layers = [program.layers_after(look) for program in world.programs]
    return np.array(layers) / world.depth


def choose_menu(targets: Array, costs: Array, count: int, price: float) -> list[int]:
    """The programs that add most to one another, greedily: each is the one by which the best of the menu for each
    question gains most in the mean, minus its price.

    Args:
        targets: see `targets_of`.
        costs: of each program, ``[P]``.
        count: how many ``M`` to choose.
        price: value that ``D`` layers must add.

    Returns:
        Columns; the identity, 0, first.
    """
    menu, best = [0], targets[:, 0]
    while len(menu) < min(count, targets.shape[1]):
        gains = np.maximum(targets, best[:, None]).mean(0) - price * costs
        gains[menu] = -np.inf
        menu.append(int(gains.argmax()))
        best = np.maximum(best, targets[:, menu[-1]])
    return menu


def fit_value(world: RecordedWorld, rows: NDArray[np.intp], config: ValueConfig) -> tuple[list[int], ValueModel]:
    """A menu and the model of its programs' values, from some questions.

    Args:
        world: the world.
        rows: rows of the questions.
        config: the settings.
    """
    targets, costs = targets_of(world, rows, config), menu_costs(world, config.look)
    menu = choose_menu(targets, costs, config.menu, config.menu_price)
    observations = observations_of(world, rows, config.look)
    return menu, ValueModel.fit(observations, targets[:, menu], ridge=config.ridge, scale=config.scale)


def observations_of(world: RecordedWorld, rows: NDArray[np.intp], look: int) -> NDArray[np.float32]:
    """What agents see of questions after some layers of the identity, ``[Q, O]``."""
    start = world.identity.layers[:look]
    return world.observations([(world.questions[row].ask, start) for row in rows])


def out_of_fold(
    world: RecordedWorld, rows: NDArray[np.intp], config: ValueConfig, seed: int, limit: int | None = None
) -> OutOfFold:
    """Cross-validate; twins stand in the same fold, and menus and static programs are those of the other folds.

    Args:
        world: the world.
        rows: rows of the questions.
        config: the settings.
        seed: of the folds, and of the questions that a limit leaves out.
        limit: fit on no more questions than this in each fold; None takes all.
    """
    world.require_texts("keep reworded twins of a question together")
    rng = np.random.default_rng(seed)
    fold = twin_folds(world, rows, config.folds, rng)
    parts = [
        held_out(world, rng.permutation(rows[fold != each])[:limit], rows[fold == each], config)
        for each in range(config.folds)
        if (fold == each).any()
    ]
    order = np.argsort(np.concatenate([np.flatnonzero(fold == each) for each in range(config.folds)]))
    columns = [field.name for field in fields(OutOfFold)]
    return OutOfFold(*(np.concatenate([getattr(part, name) for part in parts])[order] for name in columns))


def twin_folds(world: RecordedWorld, rows: NDArray[np.intp], folds: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """The fold of each question, ``[Q]``; twins stand in the same one."""
    twins = np.unique([twin_hash(world.questions[row].ask) for row in rows], return_inverse=True)[1]
    fold: NDArray[np.intp] = rng.permutation(twins.max() + 1)[twins] % folds
    return fold


def held_out(
    world: RecordedWorld, inside: NDArray[np.intp], outside: NDArray[np.intp], config: ValueConfig
) -> OutOfFold:
    """Fit on some questions, choose for others.

    Args:
        world: the world.
        inside: rows of the questions to fit on.
        outside: rows of the others.
        config: the settings.
    """
    costs, right = menu_costs(world, config.look), world.arrays["right"]
    menu, model = fit_value(world, inside, config)
    observations = observations_of(world, outside, config.look)
    predicted = model.predict(observations)
    best = ranked(predicted, model.doubt(observations), costs[menu], config.price, config.most_doubt)[:, 0]
    chosen, values = np.array(menu)[best], predicted[np.arange(len(outside)), best]
    static = np.full(len(outside), right[inside].mean(0).argmax())
    return OutOfFold(
        outside, chosen, right[outside, chosen], costs[chosen], static, right[outside, static], values.astype(float)
    )


def calibrate(values: Array, right: NDArray[np.bool_]) -> Calibration:
    """The logistic function under which verdicts are likeliest, its slope held back slightly.

    Args:
        values: predicted out of fold, ``[Q]``.
        right: verdicts, ``[Q]``.
    """

    def loss(parameters: Array) -> float:
        logits = parameters[0] * values + parameters[1]
        return float((np.logaddexp(0, logits) - right * logits).mean() + 1e-4 * parameters[0] ** 2)

    slope, intercept = optimize.minimize(loss, np.array([1.0, 0.0])).x
    return Calibration(float(slope), float(intercept))


def train_value(world: RecordedWorld, folder: Path, config: ValueConfig, seed: int = 0) -> TrainedValue:
    """Train on the train and validation questions of a world; its test questions stay unseen.

    Args:
        world: the world.
        folder: gets ``agents/value``, ``agents/best-static`` and ``agents/best-static-per-task``.
        config: the settings.
        seed: of the cross-validation.

    Raises:
        ConfigError: if the world holds no texts, or no states where the agent looks.
    """
    world.require_texts("say on an agent's card what it was trained on")
    rows = np.concatenate([world.rows("train"), world.rows("validation")])
    static = static_of_world(world)
    judged = out_of_fold(world, rows, config, seed)
    menu, model = fit_value(world, rows, config)
    agent = ValueAgent(
        world.asks, [world.programs[column] for column in menu], model, look=config.look, price=config.price,
        most_doubt=config.most_doubt, calibration=calibrate(judged.values, judged.right),
    )  # fmt: skip
    out_of_fold_results = {
        "pass_at_1": float(judged.right.mean()),
        "cost": float(judged.costs.mean()),
        "static_pass_at_1": float(judged.static_right.mean()),
        "identity_pass_at_1": float(world.arrays["right"][judged.questions, 0].mean()),
        "questions": len(judged.questions),
    }
    card = card_from_world(world, KIND, config, seed, static, {"out_of_fold": out_of_fold_results})
    agents = folder / "agents"
    reduction = world.reduction.at(config.look)
    save_agent(
        card.model_copy(update={"config": card.config | agent.settings()}), agents / KIND, agent.saved(reduction)
    )
    save_static_programs(static, card, agents)
    return TrainedValue(agents, judged, static)
