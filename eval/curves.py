"""Learning curves as a table, as JSON and as a picture: what an agent gains over the best static program."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.statistics import Estimate, paired_difference
from eval.table import Table
from polar_env.tables import write_whole

__all__ = [
    "CurvePoint", "TransferRow", "curve_table", "draw_curves", "point_of", "transfer_row", "transfer_table",
]  # fmt: skip

_LABELS = {
    "questions": "questions to learn from",
    "menu": "programs to choose from",
    "look": "layers before the choice",
    "price": "price of D layers",
}


@dataclass(frozen=True)
class CurvePoint:
    """What an agent is worth at one value of what is varied.

    Attributes:
        curve: what is varied.
        value: its value.
        pass_at_1: share of right answers.
        cost: executed layers / D, mean.
        vs_static: paired difference to the best static program of the same questions.
    """

    curve: str
    value: float
    pass_at_1: float
    cost: float
    vs_static: Estimate

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def point_of(
    curve: str, value: float, right: NDArray[np.bool_], static_right: NDArray[np.bool_], costs: NDArray[np.float64]
) -> CurvePoint:
    """A point from verdicts on the same questions.

    Args:
        curve: what is varied.
        value: its value.
        right: whether the agent's program is right, ``[Q]``.
        static_right: whether the best static program is, ``[Q]``.
        costs: executed layers / D, ``[Q]``.
    """
    difference = paired_difference(right.tolist(), static_right.tolist())
    return CurvePoint(curve, value, float(right.mean()), float(costs.mean()), difference)


@dataclass(frozen=True)
class TransferRow:
    """What an agent is worth on questions of a kind that it was not fitted on.

    Attributes:
        name: what is new in them.
        identity: share that the identity answers rightly.
        pass_at_1: the same of the agent.
        cost: executed layers / D, mean.
        vs_static: paired difference to the best static program of the questions that were seen.
        vs_identity: the same to the identity.
    """

    name: str
    identity: float
    pass_at_1: float
    cost: float
    vs_static: Estimate
    vs_identity: Estimate


def transfer_row(
    name: str,
    right: NDArray[np.bool_],
    static_right: NDArray[np.bool_],
    identity_right: NDArray[np.bool_],
    costs: NDArray[np.float64],
) -> TransferRow:
    """A row from verdicts on the same questions; see `point_of`."""
    differences = [paired_difference(right.tolist(), base.tolist()) for base in (static_right, identity_right)]
    return TransferRow(name, float(identity_right.mean()), float(right.mean()), float(costs.mean()), *differences)


def transfer_table(rows: Sequence[TransferRow]) -> Table:
    """A row for each kind."""
    return Table(
        ("questions", "count", "identity %", "agent %", "points over best static", "over identity", "mean layers / D"),
        [
            (
                each.name,
                str(each.vs_static.count),
                f"{100 * each.identity:.1f}",
                f"{100 * each.pass_at_1:.1f}",
                each.vs_static.percent(sign=True),
                each.vs_identity.percent(sign=True),
                f"{each.cost:.3f}",
            )
            for each in rows
        ],
    )


def curve_table(points: Sequence[CurvePoint]) -> Table:
    """A row for each point."""
    return Table(
        ("varied", "value", "pass@1 %", "points over best static", "mean layers / D"),
        [
            (
                _LABELS[each.curve],
                f"{each.value:g}",
                f"{100 * each.pass_at_1:.1f}",
                each.vs_static.percent(sign=True),
                f"{each.cost:.3f}",
            )
            for each in points
        ],
    )


def draw_curves(points: Sequence[CurvePoint], path: Path) -> None:
    """One panel for each curve, written as PNG; at a price, cost stands on the axis."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(each.curve for each in points))
    figure = Figure(figsize=(3.2 * len(names), 3.0), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axes, name in zip(panels, names, strict=True):
        own = [each for each in points if each.curve == name]
        at = [each.cost if name == "price" else each.value for each in own]
        middle, low, high = (
            [100 * getattr(each.vs_static, end) for each in own] for end in ("value", "low", "high")
        )  # fmt: skip
        axes.plot(at, middle, color="#2a6fdb", marker="o", markersize=4)
        axes.fill_between(at, low, high, color="#2a6fdb", alpha=0.15, linewidth=0)
        axes.axhline(0, color="#777777", linewidth=0.8)
        if name in ("questions", "menu"):
            axes.set_xscale("log", base=2)
            axes.set_xticks(at, [f"{value:g}" for value in at])
            axes.minorticks_off()
        axes.set_xlabel("mean layers / D (by the price)" if name == "price" else _LABELS[name])
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("points over best static")
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=130)
    write_whole(path, sink.getvalue())
