"""The numbers of a report: a `MethodSummary` of each method, the comparisons with the baselines, and their tables."""

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
from eval.methods import ALSO_BEST_STATIC, BEST_STATIC, BEST_STATIC_PER_TASK, IDENTITY, ORACLE
from eval.statistics import FEWEST_SEEDS, Estimate, interquartile_mean, share
from eval.table import Table
from eval.timing import Timing
from polar_env.program import Program

__all__ = [
    "BASES",
    "MethodSummary",
    "OverSeeds",
    "Summary",
    "comparison_table",
    "mean_executions",
    "method_table",
    "shorter_share",
    "slower_notes",
    "summarise",
    "task_table",
]

BASES = {"vs_static": BEST_STATIC, "vs_static_per_task": BEST_STATIC_PER_TASK, "vs_identity": IDENTITY}
"""What methods are compared with, in the order of a report."""
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
        at_equal_cost: of each agent, its accuracy-cost frontier minus that of the static programs.
        form_repair: of each method's questions that the identity gets wrong and it gets right, the share that the
            identity has right in another form; only methods that win any.
        agreement: of each method, how often the teacher-forced verdict is the generated one.
        over_seeds: of agents that were trained with several seeds, by the name that they share.
    """

    methods: dict[str, MethodSummary]
    comparisons: dict[str, Comparisons]
    at_equal_cost: dict[str, Estimate]
    form_repair: dict[str, Estimate]
    agreement: dict[str, Estimate]
    over_seeds: dict[str, OverSeeds]

    @property
    def agents(self) -> list[str]:
        """Names of the learned agents, the last one first."""
        return [name for name, method in reversed(self.methods.items()) if method.role == "agent"]

    @property
    def sentences(self) -> list[str]:
        """What it shows, in words, the headline first."""
        texts = [each.sentence for each in self.over_seeds.values()]
        for name in self.agents:
            texts += dict.fromkeys(of[name][ALL_TASKS].sentence for of in self.comparisons.values() if name in of)
            if name in self.at_equal_cost:
                texts.append(_equal_cost_sentence(name, self.at_equal_cost[name]))
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
        for key, estimates in (
            ("at_equal_cost", self.at_equal_cost),
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


def _at_equal_cost(rows: pd.DataFrame, roles: Mapping[str, str], seed: int) -> dict[str, Estimate]:
    """Each agent beside the frontier of the static programs that answered as many questions as the identity."""
    counts = rows["method"].value_counts()
    everything = [name for name in roles if counts.get(name, 0) == counts.get(IDENTITY)]
    static = [name for name in everything if roles[name] == "static"]
    agents = [name for name in everything if roles[name] == "agent"]
    if not static or not agents:
        return {}
    right = rows.pivot(index="question_id", columns="method", values="right")
    costs = rows.pivot(index="question_id", columns="method", values="cost")

    def family(names: Sequence[str]) -> Family:
        return Family(costs[names].to_numpy(float).T, right[names].to_numpy(float).T)

    return {name: gap(family([name]), family(static), seed) for name in agents}


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


def method_table(summary: Summary) -> Table:
    """The numbers of each method."""
    return Table(
        ("method", "pass@1 %, 95 % interval", "mean layers / D", "GFLOPs", "agent MFLOPs", "ms / question", "programs",
         "questions"),
        [
            (
                each.label,
                each.pass_at_1.percent(),
                f"{each.mean_cost:.3f}",
                f"{each.flops / 1e9:.2f}",
                f"{each.agent_flops / 1e6:.2f}",
                "" if each.seconds is None else f"{1000 * each.seconds:.0f}",
                str(each.programs),
                str(each.pass_at_1.count),
            )
            for each in summary.methods.values()
        ],
    )  # fmt: skip


def comparison_table(comparisons: Comparisons, by_task: Sequence[str] | None = None) -> Table:
    """Methods beside one baseline over all questions, and some of them task by task.

    Args:
        comparisons: of one baseline.
        by_task: names of the methods that get a row for each task; None for all.
    """
    return Table(
        ("method", "task", "points, 95 % interval", "won", "lost", "p", "p (Holm)", "could show", "it"),
        [
            (
                each.method,
                each.task,
                each.delta.percent(sign=True),
                str(each.won),
                str(each.lost),
                f"{each.p:.2g}",
                f"{each.p_holm:.2g}",
                f"{100 * each.smallest:.1f}",
                each.verdict,
            )
            for method, of_method in comparisons.items()
            for each in of_method.values()
            if each.task == ALL_TASKS or by_task is None or method in by_task
        ],
    )


def task_table(summary: Summary) -> Table:
    """pass@1 of each method on each task, with Wilson intervals; the oracle is left out."""
    methods = [each for each in summary.methods.values() if each.role != "oracle"]
    tasks = dict.fromkeys(task for each in methods for task in each.by_task)
    return Table(
        ("task", "questions", *(each.method for each in methods)),
        [
            (
                task,
                str(max(each.by_task[task].count for each in methods if task in each.by_task)),
                *(each.by_task[task].percent() if task in each.by_task else "" for each in methods),
            )
            for task in tasks
        ],
    )


def slower_notes(summary: Summary) -> list[str]:
    """A sentence for each method that executes fewer layers than the identity and yet takes longer."""
    identity = summary.methods.get(IDENTITY)
    if identity is None or identity.seconds is None or identity.token_layers is None:
        return []
    return [
        f"{each.method} executes fewer layers than the identity ({each.mean_cost:.3f} of it) and yet takes "
        f"{each.seconds / identity.seconds:.2f} times as long per question. {_why_slower(each, identity.token_layers)}"
        for each in summary.methods.values()
        if each.seconds is not None
        and each.token_layers is not None
        and each.mean_cost < identity.mean_cost
        and each.seconds > identity.seconds
    ]


def _why_slower(method: MethodSummary, of_identity: float) -> str:
    executed = f"It executed {method.token_layers or 0:.0f} token-layers to the identity's {of_identity:.0f}"
    shares_less = ", since programs of its own share fewer states" if (method.token_layers or 0) > of_identity else ""
    return f"{executed}{shares_less}, and spent {method.agent_flops / 1e6:.2f} MFLOPs on deciding."


def _equal_cost_sentence(name: str, distance: Estimate) -> str:
    where = "above" if distance.low > 0 else "below" if distance.high < 0 else "not told from"
    return (
        f"At equal cost {name} is {where} the accuracy-cost frontier of the static programs "
        f"({distance.percent(sign=True)} points between the two)."
    )


def _share_json(estimate: Estimate) -> dict[str, Any]:
    return {"pass_at_1": estimate.value, "low": estimate.low, "high": estimate.high, "questions": estimate.count}


def _interval_json(estimate: Estimate, of: str = "questions") -> dict[str, Any]:
    low, high = (None if math.isnan(end) else end for end in (estimate.low, estimate.high))
    return {"value": estimate.value, "low": low, "high": high, of: estimate.count}
