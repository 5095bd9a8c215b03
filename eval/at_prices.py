"""Agents that weigh layers, at several prices on a recorded world, against another such agent at the same prices.

Letters: ``A`` agents, ``Q`` questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.base import Responder
from agents.on_record import choose_on_record
from agents.registry import load_agent, read_cards
from eval.leaks import refuse_leaks
from eval.statistics import Estimate, mean
from eval.table import Table
from polar_env.errors import ConfigError
from polar_env.program import Program
from polar_env.worlds import RecordedWorld

__all__ = ["AtPrice", "at_prices", "price_table"]


@dataclass(frozen=True)
class AtPrice:
    """What agents, trained with several seeds, are worth at one price; intervals are over questions.

    Attributes:
        price: of D layers.
        pass_at_1: share of right answers, mean over agents.
        cost: mean executed layers / D.
        base_pass_at_1, base_cost: those of the other agent.
        vs_static: difference of verdicts to the best static program.
        vs_base: difference of verdicts to the other agent.
        reward_vs_base: difference of verdict minus price times cost.
    """

    price: float
    pass_at_1: float
    cost: float
    base_pass_at_1: float
    base_cost: float
    vs_static: Estimate
    vs_base: Estimate
    reward_vs_base: Estimate


def at_prices(
    world: RecordedWorld,
    names: Sequence[str],
    base: str,
    best: Program,
    prices: Sequence[float],
    split: str = "test",
) -> list[AtPrice]:
    """Compare.

    Args:
        world: the world.
        names: agents of one kind, as `agents.registry.load_agent` takes them; seeds of one training.
        base: the agent that they are compared with.
        best: the best static program.
        prices: of D layers.
        split: on which questions.

    Raises:
        LeakError: if a question was used to train an agent, or an agent reads a verdict.
        ConfigError: for an agent that has no price.
    """
    rows = world.rows(split)
    refuse_leaks([world.questions[row] for row in rows], list(read_cards([*names, base]).values()), world.prompts)
    static, found = world.arrays["right"][rows, world.column(best)], []
    for price in prices:
        right, costs = np.stack([_judged(world, f"{name}@{price:g}", rows) for name in names], axis=1)  # [A, Q] each
        base_right, base_costs = _judged(world, f"{base}@{price:g}", rows)
        gained = right.mean(0) - base_right
        found.append(
            AtPrice(
                price, float(right.mean()), float(costs.mean()), float(base_right.mean()), float(base_costs.mean()),
                mean(right.mean(0) - static), mean(gained), mean(gained - price * (costs.mean(0) - base_costs)),
            )
        )  # fmt: skip
    return found


def _judged(world: RecordedWorld, name: str, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Verdicts and executed layers / D of an agent's programs, ``[2, Q]``."""
    agent = load_agent(name, world)
    if isinstance(agent, Responder):
        raise ConfigError(f"'{name}' answers out of several runs of the LLM, which a recorded world does not hold.")
    chosen, costs = choose_on_record(world, agent, rows)
    return np.stack([world.arrays["right"][rows, chosen].astype(float), costs])


def price_table(found: Sequence[AtPrice]) -> Table:
    """A row for each price; differences in points."""

    def points(each: Estimate) -> str:
        return f"{100 * each.value:+.1f} [{100 * each.low:+.1f}, {100 * each.high:+.1f}]"

    header = [
        "price",
        "pass@1",
        "cost",
        "base pass@1",
        "base cost",
        "over best static",
        "over base",
        "reward over base",
    ]
    rows = []
    for each in found:
        shares = [f"{100 * each.pass_at_1:.1f}", f"{each.cost:.3f}", f"{100 * each.base_pass_at_1:.1f}"]
        differences = [points(some) for some in (each.vs_static, each.vs_base, each.reward_vs_base)]
        rows.append([f"{each.price:g}", *shares, f"{each.base_cost:.3f}", *differences])
    return Table(header, rows)
