"""What a trace set shows: how often other programs are right, shorter or better than the normal pass, and by what.

Letters: ``D`` the model's depth, ``Q`` questions, ``M`` programs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.statistics import Estimate, share
from polar_env.edits import kind_of
from polar_env.errors import TraceError
from polar_env.program import Program

__all__ = ["Analysis", "LayerUse", "MenuPoint", "analyse"]

Row = dict[str, Any]
KINDS = ("skip only", "repeat only", "both", "order")
_SHORTEST = 0.05


@dataclass(frozen=True)
class MenuPoint:
    """Coverage of a menu: any of its programs is right, so an upper bound that needs an oracle.

    Attributes:
        size: programs in it.
        added: the last of them.
        chosen_on: coverage of the train questions, on which the race and the menu were chosen.
        held_out: coverage of the validation questions.
    """

    size: int
    added: str
    chosen_on: float
    held_out: Estimate


@dataclass(frozen=True)
class LayerUse:
    """How programs treat each layer.

    Attributes:
        skipped: share of programs that skip it, ``[D]``.
        repeated: share of programs that execute it more than once, ``[D]``.
        entropy: of the executions over the layers, 1 where all are used alike.
        programs: how many programs that is of.
    """

    skipped: NDArray[np.float64]
    repeated: NDArray[np.float64]
    entropy: float
    programs: int


@dataclass(frozen=True)
class Analysis:
    """The findings.

    Attributes:
        questions: questions with a tree.
        programs: programs evaluated for each, on average, besides the identity.
        identity: share of questions that the identity gets right.
        shorter: of those, share with a right program of fewer layers; None without any.
        fixed: of the others, share with a right program.
        chance_shorter, chance_fixed: the same for as many random programs.
        by_kind: for each kind of program, shares of questions that programs of this kind alone make shorter and fix.
        by_difficulty: for each task and difficulty: questions, share right, share fixed, mean shortest right cost.
        lengths: of each question with a right program the shortest one's layers.
        shortest_cost: mean of these over D.
        shortest_5_cost: mean layers / D of the 5 % shortest right programs.
        right_use, all_use: layers of right programs other than the identity, and of all that were tried.
        menu: the best shared programs, one more at a time; empty where no validation questions were measured.
    """

    questions: int
    programs: float
    identity: Estimate
    shorter: Estimate | None
    fixed: Estimate | None
    chance_shorter: Estimate | None
    chance_fixed: Estimate | None
    by_kind: dict[str, tuple[Estimate | None, Estimate | None]]
    by_difficulty: dict[tuple[str, str], tuple[int, Estimate, Estimate | None, float]]
    lengths: list[int]
    shortest_cost: float
    shortest_5_cost: float
    right_use: LayerUse
    all_use: LayerUse
    menu: list[MenuPoint]


def analyse(rows: Sequence[Row], depth: int, menu_size: int = 20) -> Analysis:
    """Analyse the rows of a trace set.

    Args:
        rows: see `train.traces.TraceSet.rows`; those of the stage ``tree`` (or ``imported``) are the search, ``chance``
            the random programs, and all together tell which programs are shared.
        depth: the model's depth.
        menu_size: programs in the largest menu.

    Raises:
        TraceError: if there is no question whose search begins with the identity.
    """
    trees, chance = _by_question(rows, "tree") or _by_question(rows, "imported"), _by_question(rows, "chance")
    identity = str(Program.identity(depth))
    known = {(row["question_id"], row["program"]): row["right"] for found in trees.values() for row in found}
    base = {question: known[question, identity] for question in trees if (question, identity) in known}
    if not base:
        raise TraceError("no search in these traces has a verdict of the identity, beside which programs are judged.")
    trees = {question: trees[question] for question in base}
    shorter, fixed = _coverage(trees, base, depth)
    chance_shorter, chance_fixed = _coverage(chance, {q: base[q] for q in chance if q in base}, depth)
    tried = [row for found in trees.values() for row in found if row["program"] != identity]
    right = [row for row in tried if row["right"]]
    lengths = [min(r["layers"] for r in found if r["right"]) for found in trees.values() if any(_rights(found))]
    all_lengths = sorted(row["layers"] for found in trees.values() for row in found if row["right"])
    kinds = {row["program"]: kind_of(Program.parse(row["program"]), depth) for row in tried}
    by_kind = {}
    for kind in KINDS:
        of_kind = {q: [row for row in found if kinds.get(row["program"]) == kind] for q, found in trees.items()}
        if any(of_kind.values()):
            by_kind[kind] = _coverage(of_kind, base, depth)
    return Analysis(
        questions=len(trees),
        programs=len(tried) / max(1, len(trees)),
        identity=share(list(base.values())),
        shorter=shorter,
        fixed=fixed,
        chance_shorter=chance_shorter,
        chance_fixed=chance_fixed,
        by_kind=by_kind,
        by_difficulty=_by_difficulty(trees, base, depth),
        lengths=lengths,
        shortest_cost=float(np.mean(lengths)) / depth if lengths else np.nan,
        shortest_5_cost=_mean(all_lengths[: max(1, round(_SHORTEST * len(all_lengths)))]) / depth,
        right_use=_layer_use([row["program"] for row in right], depth),
        all_use=_layer_use([row["program"] for row in tried], depth),
        menu=_menu(rows, identity, menu_size),
    )


def _by_question(rows: Sequence[Row], stage: str) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["stage"] == stage:
            grouped[row["question_id"]].append(row)
    return dict(grouped)


def _rights(rows: Sequence[Row]) -> list[bool]:
    return [row["right"] for row in rows]


def _coverage(
    found: dict[str, list[Row]], base: dict[str, bool], depth: int
) -> tuple[Estimate | None, Estimate | None]:
    """Share of identity-right questions with a shorter right program, and of identity-wrong ones with a right one."""
    shorter = [any(r["right"] and r["layers"] < depth for r in found[q]) for q, right in base.items() if right]
    fixed = [any(_rights(found[q])) for q, right in base.items() if not right]
    return share(shorter) if shorter else None, share(fixed) if fixed else None


def _by_difficulty(
    trees: dict[str, list[Row]], base: dict[str, bool], depth: int
) -> dict[tuple[str, str], tuple[int, Estimate, Estimate | None, float]]:
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for question, found in trees.items():
        groups[found[0]["task"], found[0]["difficulty"]].append(question)
    table = {}
    for group, members in sorted(groups.items()):
        _, fixed = _coverage(trees, {q: base[q] for q in members}, depth)
        shortest = [min(r["layers"] for r in trees[q] if r["right"]) for q in members if any(_rights(trees[q]))]
        table[group] = (len(members), share([base[q] for q in members]), fixed, _mean(shortest) / depth)
    return table


def _layer_use(programs: Sequence[str], depth: int) -> LayerUse:
    executions = np.array([Program.parse(p).executions(depth) for p in programs]).reshape(-1, depth)
    total = executions.sum(0)
    used = total[total > 0] / max(1, total.sum())
    entropy = float(-(used * np.log(used)).sum() / np.log(depth)) if depth > 1 and len(used) else 0.0
    if not len(executions):
        return LayerUse(np.zeros(depth), np.zeros(depth), 0.0, 0)
    return LayerUse((executions == 0).mean(0), (executions > 1).mean(0), entropy, len(executions))


def _menu(rows: Sequence[Row], identity: str, size: int) -> list[MenuPoint]:
    """Greedy menus of the programs that all of the questions share, chosen on train questions alone."""
    known: dict[str, dict[str, bool]] = defaultdict(dict)
    for row in rows:
        if row["stage"] != "imported":
            known[row["program"]][row["question_id"]] = row["right"]
    split_of = {row["question_id"]: row["split"] for row in rows}
    raced = {row["question_id"] for row in rows if row["stage"] == "matrix"} & known.get(identity, {}).keys()
    shared = [p for p, verdicts in sorted(known.items()) if p != identity and raced <= verdicts.keys()]
    parts = [sorted(q for q in raced if (split_of[q] == "train") == train) for train in (True, False)]
    if not shared or not all(parts):
        return []
    programs = [identity, *shared]
    chosen_on, held_out = (np.array([[known[p][q] for p in programs] for q in part], bool) for part in parts)  # [Q, M]
    menu, points = [0], []
    while True:
        covered, others = (part[:, menu].max(1) for part in (chosen_on, held_out))
        points.append(MenuPoint(len(menu), programs[menu[-1]], float(covered.mean()), share(others)))
        gains = (chosen_on & ~covered[:, None]).sum(0)
        if len(menu) == size or not gains.max():
            return points
        menu.append(int(gains.argmax()))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
