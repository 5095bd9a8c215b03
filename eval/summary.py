"""The numbers of a report: a `MethodSummary` of each method, and the comparisons with the baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from eval.comparison import ALL_TASKS, Comparisons, compare_with
from eval.frontier import Family, gap
from eval.methods import ALSO_BEST_STATIC, BEST_STATIC, BEST_STATIC_PER_TASK, IDENTITY, ORACLE, SAMPLED
from eval.statistics import FEWEST_SEEDS, Estimate, interquartile_mean, share
from eval.timing import Timing
from polar_env.program import Program

__all__ = [
    "BASES",
    "RIVALS",
    "MethodSummary",
    "OverSeeds",
    "Summary",
    "mean_executions",
    "shorter_share",
    "summarise",
]

BASES = {"vs_static": BEST_STATIC, "vs_static_per_task": BEST_STATIC_PER_TASK, "vs_identity": IDENTITY}
"""What methods are compared with, in the order of a report."""
RIVALS = {
    "at_equal_cost": "the static programs",
    "at_equal_cost_per_task": "the best static programs of each task",
    "at_equal_cost_sampling": "the identity, sampled",
}
"""Whose accuracy-cost frontiers agents are compared with."""
_TIMED_BATCH = 32


@dataclass(frozen=True)
class MethodSummary:
    """One line of the table.

    Attributes:
        method: its name.
        role: see `eval.methods.Role`.
        remark: what its row must say beside the name.
        pass_at_1: share of questions right, with a Wilson interval.
        by_task: the same for each task.
        task_means: mean ``cost`` and ``flops`` on each task.
        mean_cost: mean executed layers / D.
        flops: mean floating-point operations per question, of LLM and agent.
        agent_flops: of these, the agent's.
        seconds: mean seconds per question in batches of 32; None where it was not timed.
        token_layers: mean tokens through layers of the LLM, really executed, in the same run.
        executions: mean executions of each layer by the first program, ``[D]``.
        programs: distinct programs that it chose.
    """

    method: str
    role: str
    remark: str
    pass_at_1: Estimate
    by_task: dict[str, Estimate]
    task_means: dict[str, dict[str, float]]
    mean_cost: float
    flops: float
    agent_flops: float
    seconds: float | None
    token_layers: float | None
    executions: NDArray[np.float64]
    programs: int

    @property
    def label(self) -> str:
        """The name that a reader sees, with what must be said beside it."""
        return f"{self.method} ({self.remark})" if self.remark else self.method

    def as_json(self) -> dict[str, Any]:
        """The keys that scripts read."""
        return {
            **_share_json(self.pass_at_1),
            "mean_cost": self.mean_cost,
            "flops": self.flops,
            "agent_flops": self.agent_flops,
            "seconds_per_question": self.seconds,
            "token_layers": self.token_layers,
            "programs": self.programs,
            "tasks": {
                task: _share_json(estimate)
                | {"mean_cost": self.task_means[task]["cost"], "flops": self.task_means[task]["flops"]}
                for task, estimate in self.by_task.items()
            },
        }


@dataclass(frozen=True)
class OverSeeds:
    """An agent that was trained with several seeds: interquartile means, with intervals over seeds.

    Attributes:
        name: the name that the trainings share.
        pass_at_1: share of right answers.
        lowest, highest: the same of the worst and of the best seed.
        deltas: the difference to each baseline, by its name.
    """

    name: str
    pass_at_1: Estimate
    lowest: float
    highest: float
    deltas: dict[str, Estimate]

    @property
    def sentence(self) -> str:
        """The finding in words."""
        deltas = "; ".join(f"against {base} {delta.percent(sign=True)} points" for base, delta in self.deltas.items())
        seeds = self.pass_at_1.count
        mean = "interquartile mean" if seeds > 3 else "mean"
        few = "" if seeds >= FEWEST_SEEDS else " So few seeds give no interval."
        return (
            f"Over {seeds} seeds {self.name} is right on {self.pass_at_1.percent()} % ({mean}; the seeds go from "
            f"{100 * self.lowest:.1f} to {100 * self.highest:.1f}); {deltas}.{few}"
        )

    def as_json(self) -> dict[str, Any]:
        """The keys that scripts read."""
        deltas = {base: _interval_json(delta, "seeds") for base, delta in self.deltas.items()}
        spread = {"lowest": self.lowest, "highest": self.highest}
        return {"pass_at_1": _interval_json(self.pass_at_1, "seeds"), **spread, "deltas": deltas}


@dataclass(frozen=True)
class Summary:
    """All numbers of an evaluation.

    Attributes:
        methods: by name, in the order of the table.
        comparisons: for each key of `BASES` whose baseline was measured, all methods beside it.
        at_equal_cost: of each agent, its accuracy at its own cost minus the accuracy-cost frontier of other methods, by
            the keys of `RIVALS`.
        form_repair: of each method's questions that the identity gets wrong and it gets right, the share that the
            identity has right in another form; only methods that win any.
        agreement: of each method, how often the teacher-forced verdict is the generated one.
        over_seeds: of agents that were trained with several seeds, by the name that they share.
    """

    methods: dict[str, MethodSummary]
    comparisons: dict[str, Comparisons]
    at_equal_cost: dict[str, dict[str, Estimate]]
    form_repair: dict[str, Estimate]
    agreement: dict[str, Estimate]
    over_seeds: dict[str, OverSeeds]

    @property
    def agents(self) -> list[str]:
        """Names of the learned agents, the last one first."""
        return [name for name, method in reversed(self.methods.items()) if method.role == "agent"]

    @property
    def claims(self) -> dict[str, dict[str, str]]:
        """By method and baseline, what their difference over all questions says."""
        claims: dict[str, dict[str, str]] = {}
        for of in self.comparisons.values():
            for method, by_task in of.items():
                claims.setdefault(method, {})[by_task[ALL_TASKS].base] = by_task[ALL_TASKS].verdict
        return claims

    @property
    def sentences(self) -> list[str]:
        """What it shows, in words, the headline first."""
        texts = [each.sentence for each in self.over_seeds.values()]
        for name in self.agents:
            texts += dict.fromkeys(of[name][ALL_TASKS].sentence for of in self.comparisons.values() if name in of)
            for key, distance in self.at_equal_cost.get(name, {}).items():
                texts.append(_equal_cost_sentence(name, distance, RIVALS[key]))
            if name in self.form_repair and self.form_repair[name].count:
                texts.append(
                    f"Of the {self.form_repair[name].count} questions that {name} wins from the identity, the identity "
                    f"has {100 * self.form_repair[name].value:.0f} % right in another form: so much of the gain is "
                    "form, not substance."
                )
        if BEST_STATIC in self.methods and IDENTITY in self.methods:
            texts.append(self.comparisons["vs_identity"][BEST_STATIC][ALL_TASKS].sentence)
        return texts or ["No learned agent was measured."]

    def as_json(self) -> dict[str, Any]:
        """The keys that scripts read."""
        values: dict[str, Any] = {name: method.as_json() for name, method in self.methods.items()}
        for key, of in self.comparisons.items():
            for name, by_task in of.items():
                overall = by_task[ALL_TASKS].as_json()
                tasks = {task: each.as_json() for task, each in by_task.items() if task != ALL_TASKS}
                values[name][key] = overall | ({"tasks": tasks} if tasks else {})
        for name, by_rival in self.at_equal_cost.items():
            values[name] |= {key: _interval_json(estimate) for key, estimate in by_rival.items()}
        for key, estimates in (
            ("form_repair_share", self.form_repair),
            ("verdict_agreement", self.agreement),
        ):
            for name, estimate in estimates.items():
                values[name][key] = _interval_json(estimate)
        return values | {"over_seeds": {name: each.as_json() for name, each in self.over_seeds.items()}}


def summarise(
    rows: pd.DataFrame,
    depth: int,
    roles: Mapping[str, str],
    *,
    remarks: Mapping[str, str] | None = None,
    timings: Sequence[Timing] = (),
    families: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> Summary:
    """Summarise the rows of an evaluation.

    Args:
        rows: see `eval.results.Results`.
        depth: the model's depth.
        roles: the role of each method, by name.
        remarks: what a method's row must say beside its name.
        timings: wall-clock of some methods.
        families: names of the agents that are one training with several seeds, by the name that they share.
        seed: of the bootstraps.
    """
    timed = {each.method: each for each in timings if each.batch == _TIMED_BATCH}
    methods = {
        str(name): _of_method(str(name), of_method, depth, roles[str(name)], (remarks or {}).get(str(name), ""), timed)
        for name, of_method in rows.groupby("method", sort=False)
    }
    peers = [name for name in methods if roles[name] != "oracle"]
    agents = [name for name in reversed(peers) if roles[name] == "agent"]
    others = [name for name in peers if name not in agents]
    bases = dict(BASES)
    if (remarks or {}).get(IDENTITY) == ALSO_BEST_STATIC:
        bases["vs_static"] = IDENTITY
    comparisons = {  # Holm's families are the agents and the baselines, apart: what is claimed is claimed of agents
        key: compare_with(base, rows, agents, seed) | compare_with(base, rows, others, seed)
        for key, base in bases.items()
        if base in methods
    }
    return Summary(
        methods=methods,
        comparisons=comparisons,
        at_equal_cost=_at_equal_cost(rows, roles, seed),
        form_repair=_form_repair(rows, peers),
        agreement={
            str(name): share(judged["right"].eq(judged["forced"].astype(bool)).to_numpy())
            for name, judged in rows[rows["forced"].notna()].groupby("method", sort=False)
        },
        over_seeds={
            name: _over_seeds(name, members, methods, comparisons, seed)
            for name, members in (families or {}).items()
            if len(members) > 1
        },
    )


def _over_seeds(
    name: str,
    members: Sequence[str],
    methods: Mapping[str, MethodSummary],
    comparisons: dict[str, Comparisons],
    seed: int,
) -> OverSeeds:
    shares = [methods[member].pass_at_1.value for member in members]
    return OverSeeds(
        name=name,
        pass_at_1=interquartile_mean(shares, seed),
        lowest=min(shares),
        highest=max(shares),
        deltas={
            of[members[0]][ALL_TASKS].base: interquartile_mean(
                [of[member][ALL_TASKS].delta.value for member in members], seed
            )
            for key, of in comparisons.items()
        },
    )


def _of_method(
    name: str, rows: pd.DataFrame, depth: int, role: str, remark: str, timed: Mapping[str, Timing]
) -> MethodSummary:
    timing = timed.get(name)
    return MethodSummary(
        method=name,
        role=role,
        remark=remark,
        pass_at_1=share(rows["right"].to_numpy()),
        by_task={str(task): share(each.to_numpy()) for task, each in rows.groupby("task", sort=False)["right"]},
        task_means=rows.groupby("task", sort=False)[["cost", "flops"]].mean().to_dict("index"),
        mean_cost=float(rows["cost"].mean()),
        flops=float(rows["flops"].mean()),
        agent_flops=float(rows["agent_flops"].mean()),
        seconds=timing.seconds if timing else None,
        token_layers=timing.token_layers if timing else None,
        executions=mean_executions(rows, depth),
        programs=rows["program"].nunique(),
    )


def mean_executions(rows: pd.DataFrame, depth: int) -> NDArray[np.float64]:
    """Mean executions of each layer by the programs of some rows, ``[D]``."""
    counts = rows["program"].value_counts()
    executions = [Program.parse(program).executions(depth) for program in counts.index]
    return np.average(np.array(executions, float), axis=0, weights=counts.to_numpy())


def _at_equal_cost(rows: pd.DataFrame, roles: Mapping[str, str], seed: int) -> dict[str, dict[str, Estimate]]:
    """Each agent at its own cost beside the frontiers of other methods, each on the questions that all of these
    answered; static programs that answered fewer than the identity are left out.
    """
    counts = rows["method"].value_counts()
    static = [n for n, role in roles.items() if role == "static" and counts.get(n, 0) == counts.get(IDENTITY)]
    per_task = [n for n in (BEST_STATIC_PER_TASK,) if n in counts]
    sampled = [n for n in counts.index if n.startswith(SAMPLED) and roles[n] == "baseline"]
    families = {
        "at_equal_cost": static,
        "at_equal_cost_per_task": [*per_task, *static] if per_task else [],
        "at_equal_cost_sampling": [IDENTITY, *sampled] if sampled else [],
    }
    right = rows.pivot(index="question_id", columns="method", values="right")
    costs = rows.pivot(index="question_id", columns="method", values="cost")

    def beside(name: str, rivals: Sequence[str]) -> Estimate:
        common = right[[name, *rivals]].dropna().index
        ours, theirs = (
            Family(costs.loc[common, names].to_numpy(float).T, right.loc[common, names].to_numpy(float).T)
            for names in ([name], list(rivals))
        )
        return gap(ours, theirs, seed)

    return {
        name: {key: beside(name, rivals) for key, rivals in families.items() if rivals}
        for name, role in roles.items()
        if role == "agent" and name in counts
    }


def _form_repair(rows: pd.DataFrame, methods: Sequence[str]) -> dict[str, Estimate]:
    identity = rows[rows["method"] == IDENTITY].set_index("question_id")
    wrong = identity.index[~identity["right"].astype(bool)]
    shares = {}
    for name in methods:
        if name == IDENTITY:
            continue
        of_method = rows[(rows["method"] == name) & rows["right"]]
        won = of_method.loc[of_method["question_id"].isin(wrong), "question_id"]
        if len(won):
            shares[name] = share(identity.loc[won, "right_in_any_form"].astype(bool).to_numpy())
    return shares


def shorter_share(rows: pd.DataFrame, depth: int) -> Estimate | None:
    """Share of identity-right questions for which the oracle found a right program of fewer layers; None without."""
    right = rows.loc[(rows["method"] == IDENTITY) & rows["right"], "question_id"]
    searched = rows[(rows["method"] == ORACLE) & rows["question_id"].isin(right)]
    return share((searched["right"] & (searched["layers"] < depth)).to_numpy()) if len(searched) else None


def _equal_cost_sentence(name: str, distance: Estimate, rivals: str) -> str:
    where = "above" if distance.low > 0 else "below" if distance.high < 0 else "not told from"
    return (
        f"At equal cost {name} is {where} the accuracy-cost frontier of {rivals} "
        f"({distance.percent(sign=True)} points; {distance.count:,} questions)."
    )


def _share_json(estimate: Estimate) -> dict[str, Any]:
    return {"pass_at_1": estimate.value, "low": estimate.low, "high": estimate.high, "questions": estimate.count}


def _interval_json(estimate: Estimate, of: str = "questions") -> dict[str, Any]:
    low, high = (None if math.isnan(end) else end for end in (estimate.low, estimate.high))
    return {"value": estimate.value, "low": low, "high": high, of: estimate.count}
