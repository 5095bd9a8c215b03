"""What a trace set shows: how often other programs are right, shorter or better than the normal pass, and by what.

Letters: ``D`` the model's depth, ``Q`` questions, ``M`` programs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from eval.statistics import Estimate, mean, paired_difference, share
from polar_env.edits import kind_of
from polar_env.errors import TraceError
from polar_env.program import Program
from polar_env.stages import CHANCE, IMPORTED, MATRIX, SINGLES, TREE, shared_verdicts

__all__ = ["Analysis", "Coverage", "LayerUse", "MenuPoint", "analyse"]

KINDS = ("skip only", "repeat only", "both", "order")
_SHORTEST = 0.05


@dataclass(frozen=True)
class Coverage:
    """What some programs reach, each question by any of them.

    Attributes:
        shorter: share of the questions that the identity gets right with a right program of fewer layers; None without
            any such question.
        fixed: share of the others with a right program; None without any.
        shortest: mean layers / D of the shortest right program of the questions that the identity gets right.
        behind: of the others, share that the search fixes minus share that these fix, on the same questions; None for
            the search itself.
    """

    shorter: Estimate | None
    fixed: Estimate | None
    shortest: Estimate | None
    behind: Estimate | None = None


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
        search: what the programs of the search reach.
        chance: the same for as many random programs.
        singles: the same for as many random single edits.
        by_kind: the same for the search's programs of each kind alone.
        by_difficulty: for each task and difficulty: questions, share right, share fixed, mean shortest right cost.
        lengths: of each question with a right program the shortest one's layers, ``[Q]``.
        shortest_cost: mean of these over D.
        shortest_5_cost: mean layers / D of the 5 % shortest right programs.
        right_use, all_use: layers of right programs other than the identity, and of all that were tried.
        menu: the best shared programs, one more at a time; empty where no validation questions were measured.
    """

    questions: int
    programs: float
    identity: Estimate
    search: Coverage
    chance: Coverage
    singles: Coverage
    by_kind: dict[str, Coverage]
    by_difficulty: dict[tuple[str, str], tuple[int, Estimate, Estimate | None, float]]
    lengths: NDArray[np.int64]
    shortest_cost: float
    shortest_5_cost: float
    right_use: LayerUse
    all_use: LayerUse
    menu: list[MenuPoint]


def analyse(table: pd.DataFrame, depth: int, menu_size: int = 20) -> Analysis:
    """Analyse the verdicts of a trace set.

    Args:
        table: see `train.traces.TraceSet.table`; rows of the stage ``tree`` (or ``imported``) are the search,
            ``chance`` and ``singles`` the random programs, and all together tell which programs are shared.
        depth: the model's depth.
        menu_size: programs in the largest menu.

    Raises:
        TraceError: if there is no question whose search begins with the identity.
    """
    identity = str(Program.identity(depth))
    stages = set(table["stage"].unique())
    searched = table[table["stage"] == (TREE if TREE in stages else IMPORTED)]
    base = searched[searched["program"] == identity].set_index("question_id")["right"].astype(bool)
    if base.empty:
        raise TraceError("no search in these traces has a verdict of the identity, beside which programs are judged.")
    searched = searched[searched["question_id"].isin(base.index)]
    fewest = _fewest_right_layers(searched, base)
    tried = searched[searched["program"] != identity]
    kinds = tried["program"].map({p: kind_of(Program.parse(p), depth) for p in tried["program"].unique()})
    lengths = fewest.dropna().to_numpy(np.int64)
    all_lengths = np.sort(searched.loc[searched["right"], "layers"])
    return Analysis(
        questions=len(base),
        programs=len(tried) / len(base),
        identity=share(base),
        search=_coverage(fewest, base, depth),
        chance=_luck(table[table["stage"] == CHANCE], base, fewest, depth),
        singles=_luck(table[table["stage"] == SINGLES], base, fewest, depth),
        by_kind={
            kind: _coverage(_fewest_right_layers(tried[kinds == kind], base), base, depth)
            for kind in KINDS
            if (kinds == kind).any()
        },
        by_difficulty=_by_difficulty(searched, fewest, base, depth),
        lengths=lengths,
        shortest_cost=_mean(lengths) / depth,
        shortest_5_cost=_mean(all_lengths[: max(1, round(_SHORTEST * len(all_lengths)))]) / depth,
        right_use=_layer_use(tried.loc[tried["right"], "program"], depth),
        all_use=_layer_use(tried["program"], depth),
        menu=_menu(table, depth, menu_size),
    )


def _fewest_right_layers(found: pd.DataFrame, base: pd.Series) -> pd.Series:
    """Layers of the shortest right program of each question of ``base``; NaN where there is none."""
    right = found[found["right"]]
    return right.groupby("question_id", observed=True)["layers"].min().reindex(base.index)


def _coverage(fewest: pd.Series, base: pd.Series, depth: int) -> Coverage:
    of_right, fixed = fewest[base].fillna(depth), fewest[~base].notna()
    return Coverage(
        shorter=share(of_right < depth) if len(of_right) else None,
        fixed=share(fixed) if len(fixed) else None,
        shortest=mean(of_right.clip(upper=depth) / depth) if len(of_right) else None,
    )


def _luck(drawn: pd.DataFrame, base: pd.Series, searched: pd.Series, depth: int) -> Coverage:
    """What random programs reach beside the search, on the questions that have any."""
    on = base[base.index.isin(drawn["question_id"])]
    found = _fewest_right_layers(drawn, on)
    wrong = on.index[~on]
    behind = paired_difference(searched[wrong].notna(), found[wrong].notna()) if len(wrong) else None
    return replace(_coverage(found, on, depth), behind=behind)


def _by_difficulty(
    searched: pd.DataFrame, fewest: pd.Series, base: pd.Series, depth: int
) -> dict[tuple[str, str], tuple[int, Estimate, Estimate | None, float]]:
    about = searched.drop_duplicates("question_id").set_index("question_id")
    table = {}
    for (task, difficulty), members in about.groupby(["task", "difficulty"], observed=True):
        right, shortest = base[members.index], fewest[members.index]
        fixed = _coverage(shortest, right, depth).fixed
        table[str(task), str(difficulty)] = len(members), share(right), fixed, _mean(shortest.dropna()) / depth
    return table


def _layer_use(programs: pd.Series, depth: int) -> LayerUse:
    counts = programs.astype(str).value_counts()
    if counts.empty:
        return LayerUse(np.zeros(depth), np.zeros(depth), 0.0, 0)
    executions = np.array([Program.parse(p).executions(depth) for p in counts.index])
    weights = counts.to_numpy() / counts.sum()
    total = weights @ executions
    used = total[total > 0] / total.sum()
    entropy = float(-(used * np.log(used)).sum() / np.log(depth)) if depth > 1 else 0.0
    return LayerUse(weights @ (executions == 0), weights @ (executions > 1), entropy, len(programs))


def _menu(table: pd.DataFrame, depth: int, size: int) -> list[MenuPoint]:
    """Greedy menus of the programs that all of the raced questions share, chosen on train questions alone."""
    raced = table.loc[table["stage"] == MATRIX, "question_id"].unique()
    shared = shared_verdicts(table[table["question_id"].isin(raced)], depth, least_share=1.0)
    train = shared.index.isin(table.loc[table["split"] == "train", "question_id"].unique())
    if shared.shape[1] < 2 or train.all() or not train.any():
        return []
    chosen_on, held_out = shared[train].to_numpy(), shared[~train].to_numpy()  # [Q, M]
    menu, points = [0], []
    while True:
        covered, others = (part[:, menu].max(1) for part in (chosen_on, held_out))
        points.append(MenuPoint(len(menu), str(shared.columns[menu[-1]]), float(covered.mean()), share(others)))
        gains = (chosen_on & ~covered[:, None]).sum(0)
        if len(menu) == size or not gains.max():
            return points
        menu.append(int(gains.argmax()))


def _mean(values: ArrayLike) -> float:
    found = np.asarray(values, float)
    return float(found.mean()) if len(found) else float("nan")
