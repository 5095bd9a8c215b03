"""Operating points of an evaluation: each method at its accuracy and cost, beside identity and best static programs."""

from __future__ import annotations

from typing import Any

import pandas as pd

from eval.comparison import ALL_TASKS
from eval.summary import Summary
from polar_env.program import Program

__all__ = ["operating_points"]


def operating_points(summary: Summary, rows: pd.DataFrame, depth: int) -> dict[str, list[dict[str, Any]]]:
    """The keys that scripts read, one object for each method.

    Args:
        summary: of these rows.
        rows: see `eval.results.Results`.
        depth: the model's depth.

    Returns:
        ``points`` of agents, and ``baselines`` of all others but the oracle: shares of right answers on the questions
        that the method answered, paired differences to identity (``delta``), best static program (``vs_static``) and
        the best one of each task, mean cost, programs that it chose, and the share that is not the identity.
    """
    identity = str(Program.identity(depth))
    right = rows.pivot(index="question_id", columns="method", values="right")
    grouped: dict[str, list[dict[str, Any]]] = {"points": [], "baselines": []}
    for name, method in summary.methods.items():
        if method.role == "oracle":
            continue
        own = rows[rows["method"] == name]
        answered = right.loc[own["question_id"]]
        point: dict[str, Any] = {
            "method": name,
            "agent_pass_at_1": float(own["right"].mean()),
            "mean_cost": method.mean_cost,
            "distinct_programs": int(own["program"].nunique()),
            "non_identity_share": float((own["program"] != identity).mean()),
            "questions": len(own),
            "seeds": 1,
        }
        for key, of in summary.comparisons.items():
            prefix = "delta" if key == "vs_identity" else key
            if name not in of:  # it is what the others are compared with
                point |= {prefix: 0.0, f"{prefix}_low": 0.0, f"{prefix}_high": 0.0}
                point[f"{key.removeprefix('vs_')}_pass_at_1"] = point["agent_pass_at_1"]
            else:
                compared = of[name][ALL_TASKS]
                delta, base = compared.delta, compared.base
                point |= {prefix: delta.value, f"{prefix}_low": delta.low, f"{prefix}_high": delta.high}
                point[f"{key.removeprefix('vs_')}_pass_at_1"] = float(answered[base].dropna().astype(bool).mean())
        grouped["points" if method.role == "agent" else "baselines"].append(point)
    return grouped
