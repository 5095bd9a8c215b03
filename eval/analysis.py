"""What a trace set shows: how often other programs are right, shorter or better than the normal pass, and by what.

Letters: ``D`` the model's depth, ``Q`` questions, ``M`` programs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array

from eval.statistics import Estimate, mcnemar, mean, paired_difference, pooled, share
from polar_env.edits import kind_of
from polar_env.errors import TraceError
from polar_env.program import Program
from polar_env.traces.matrix import shared_verdicts
from polar_env.traces.stages import CHANCE, IMPORTED, MATRIX, SINGLES, TREE

__all__ = ["Analysis", "Coverage", "Group", "LayerUse", "MenuPoint", "analyse"]

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
        search_gain: of the others, share that the search fixes minus share that these fix, on the same questions; None
            for the search itself.
        search_won, search_lost: questions that the search fixes and these do not, and the other way round.
        search_p: McNemar's of these two.
    """

    shorter: Estimate | None = None
    fixed: Estimate | None = None
    shortest: Estimate | None = None
    search_gain: Estimate | None = None
    search_won: int = 0
    search_lost: int = 0
    search_p: float = 1.0


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
        entropy: of the executions over the layers, 1 where all are used alike; None without programs.
        programs: how many programs that is of.
    """

    skipped: NDArray[np.float64]
    repeated: NDArray[np.float64]
    entropy: Estimate | None
    programs: int


@dataclass(frozen=True)
class Group:
    """All questions, or those of one task and difficulty.

    Attributes:
        questions: questions with a tree.
        identity: share of them that the identity gets right.
        search: what the programs of the search reach.
        chance: the same for as many random programs; all None where none were evaluated.
        singles: the same for as many random single edits.
        lengths: mean layers / D of the shortest right program, of the questions that have one; None without any.
    """

    questions: int
    identity: Estimate
    search: Coverage
    chance: Coverage
    singles: Coverage
    lengths: Estimate | None


@dataclass(frozen=True)
class Analysis:
    """The findings.

    Attributes:
        overall: of all questions.
        by_group: of each task and difficulty.
        by_kind: for each kind of program how many the search tried, and what these alone reach.
        programs: programs evaluated for each question, on average, besides the identity.
        lengths: a row for each question with a right program: ``task``, ``difficulty`` and ``layers`` of the shortest.
        shortest_5_cost: mean layers / D of the 5 % shortest of all right programs, of all questions together.
        right_use, all_use: layers of right programs other than the identity, and of all that were tried.
        menu: the best shared programs, one more at a time; empty where no validation questions were measured, or no
            program was evaluated on all questions that were raced.
    """

    overall: Group
    by_group: dict[tuple[str, str], Group]
    by_kind: dict[str, tuple[int, Coverage]]
    programs: float
    lengths: pd.DataFrame
    shortest_5_cost: Estimate | None
    right_use: LayerUse
    all_use: LayerUse
    menu: list[MenuPoint]


def analyse(table: pd.DataFrame, depth: int, menu_size: int = 20) -> Analysis:
    """Analyse the verdicts of a trace set.

    Args:
        table: see `polar_env.traces.TraceSet.table`; rows of the stage ``tree`` (or ``imported``) are the search,
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
    tried = searched[searched["program"] != identity]
    kinds = tried["program"].map({p: kind_of(Program.parse(p), depth) for p in tried["program"].unique()})
    about = searched.drop_duplicates("question_id").set_index("question_id")[["task", "difficulty"]]
    sources = {"search": searched} | {stage: table[table["stage"] == stage] for stage in (CHANCE, SINGLES)}
    reached = about.assign(
        right=base,
        **{name: _fewest_right_layers(rows, about.index) for name, rows in sources.items()},
        **{f"has_{name}": about.index.isin(rows["question_id"]) for name, rows in sources.items()},
    )
    return Analysis(
        overall=_group(reached, depth),
        by_group={
            (str(task), str(difficulty)): _group(members, depth)
            for (task, difficulty), members in reached.groupby(["task", "difficulty"], observed=True)
        },
        by_kind={
            kind: (int(of_kind.sum()), _coverage(_fewest_right_layers(tried[of_kind], base.index), base, depth))
            for kind in KINDS
            if (of_kind := kinds == kind).any()
        },
        programs=len(tried) / len(base),
        lengths=reached[["task", "difficulty"]].assign(layers=reached["search"]).dropna().astype({"layers": int}),
        shortest_5_cost=_shortest_share(searched[searched["right"]], depth),
        right_use=_layer_use(tried[tried["right"]], depth),
        all_use=_layer_use(tried, depth),
        menu=_menu(table, depth, menu_size),
    )


def _fewest_right_layers(rows: pd.DataFrame, questions: pd.Index) -> pd.Series:
    """Layers of the shortest right program of each question; NaN where there is none."""
    right = rows[rows["right"]]
    return right.groupby("question_id", observed=True)["layers"].min().reindex(questions)


def _group(reached: pd.DataFrame, depth: int) -> Group:
    """Of questions with the identity's verdict and, for each source of programs, the fewest right layers."""
    lengths = reached["search"].dropna()

    def luck(name: str) -> Coverage:
        have = reached[reached[f"has_{name}"]]
        return _coverage(have[name], have["right"], depth, beside=have["search"])

    return Group(
        questions=len(reached),
        identity=share(reached["right"]),
        search=_coverage(reached["search"], reached["right"], depth),
        chance=luck(CHANCE),
        singles=luck(SINGLES),
        lengths=mean(lengths / depth) if len(lengths) else None,
    )


def _coverage(fewest: pd.Series, identity: pd.Series, depth: int, beside: pd.Series | None = None) -> Coverage:
    """What programs reach whose fewest right layers are known, and what a search ``beside`` them gains over them."""
    of_right, fixed = fewest[identity].fillna(depth).clip(upper=depth), fewest[~identity].notna()
    reached = Coverage(
        shorter=share(of_right < depth) if len(of_right) else None,
        fixed=share(fixed) if len(fixed) else None,
        shortest=mean(of_right / depth) if len(of_right) else None,
    )
    if beside is None or not len(fixed):
        return reached
    by_search = beside[~identity].notna()
    return replace(
        reached,
        search_gain=paired_difference(by_search, fixed),
        search_won=int((by_search & ~fixed).sum()),
        search_lost=int((fixed & ~by_search).sum()),
        search_p=mcnemar(by_search.to_list(), fixed.to_list()),
    )


def _shortest_share(right: pd.DataFrame, depth: int) -> Estimate | None:
    """Mean layers / D of the shortest 5 % of right programs."""
    if right.empty:
        return None
    of_length = pd.crosstab(right["question_id"].astype(str), right["layers"])  # [Q, L]
    lengths = of_length.columns.to_numpy(float)

    def shortest(counts: NDArray[np.float64]) -> float:
        wanted = max(1.0, round(_SHORTEST * counts.sum()))
        taken = np.diff(np.minimum(counts.cumsum(), wanted), prepend=0.0)
        return float(taken @ lengths / wanted / depth)

    return pooled(of_length.to_numpy(float), shortest)


def _layer_use(rows: pd.DataFrame, depth: int) -> LayerUse:
    if rows.empty:
        return LayerUse(np.zeros(depth), np.zeros(depth), None, 0)
    question, (program, texts) = rows["question_id"].factorize()[0], rows["program"].factorize()
    executions = np.array([Program.parse(text).executions(depth) for text in texts])  # [P, D]
    counts = coo_array((np.ones(len(rows)), (question, program))).tocsr()  # [Q, P]
    weights = counts.sum(0) / len(rows)
    return LayerUse(
        skipped=weights @ (executions == 0),
        repeated=weights @ (executions > 1),
        entropy=pooled(counts @ executions, _entropy),
        programs=len(rows),
    )


def _entropy(executions: NDArray[np.float64]) -> float:
    """Of executions over the layers, ``[D]``, as a share of the most that it can be."""
    used = executions[executions > 0] / executions.sum()
    return float(-(used * np.log(used)).sum() / np.log(len(executions))) if len(executions) > 1 else 0.0


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
