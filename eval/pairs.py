"""Two result folders side by side: a method of one against a method of the other, on the questions of both."""

from __future__ import annotations

from typing import Any

import pandas as pd

from eval.comparison import Comparison, compare_with
from eval.results import Results
from polar_env.errors import ConfigError, FingerprintError, UnknownNameError

__all__ = ["as_json", "compare_results", "last_method"]


def last_method(results: Results) -> str:
    """What a folder is about: its last learned agent, else the last method, no oracle, that answered all questions."""
    methods: list[dict[str, Any]] = list(results.meta["methods"].values())
    agents: list[str] = [each["name"] for each in methods if each["role"] == "agent"]
    return (agents or [each["name"] for each in methods if each["role"] != "oracle" and each["limit"] is None])[-1]


def compare_results(
    first: Results, second: Results, methods: tuple[str | None, str | None] = (None, None), *, common: bool = False
) -> dict[str, Comparison]:
    """Compare a method of one evaluation with a method of another one, over all questions and task by task.

    Args:
        first: an evaluation.
        second: the evaluation that it is compared with.
        methods: the two methods' names; None takes `last_method`.
        common: compare on the questions of both, where the two evaluations asked different ones.

    Returns:
        A comparison for each task, that of all questions first.

    Raises:
        FingerprintError: if they asked different questions, or hold other gold answers to the same ones.
        UnknownNameError: for a method that an evaluation does not have.
        ConfigError: if both are the same method of the same folder.
    """
    names = tuple(name or last_method(results) for name, results in zip(methods, (first, second), strict=True))
    if names[0] == names[1] and first.folder.resolve() == second.folder.resolve():
        raise ConfigError(
            f"'{names[0]}' of {first.folder} would be compared with itself. Give another folder, or another method "
            f"with --other: {', '.join(each for each in second.roles() if each != names[0])}."
        )
    frames = [_rows_of(results, name) for results, name in zip((first, second), names, strict=True)]
    _require_same_questions(frames, (first, second), common)
    shown = [f"{name} ({results.folder})" if names[0] == names[1] else name
             for name, results in zip(names, (first, second), strict=True)]  # fmt: skip
    rows = pd.concat([frame.assign(method=name) for frame, name in zip(frames, shown, strict=True)])
    rows = rows[rows["question_id"].isin(set(frames[0]["question_id"]) & set(frames[1]["question_id"]))]
    return compare_with(shown[1], rows, [shown[0]])[shown[0]]


def as_json(compared: dict[str, Comparison]) -> dict[str, Any]:
    """The keys that scripts read: those of all questions, and ``tasks``."""
    overall, *tasks = compared.values()
    return {
        "method": overall.method,
        **overall.as_json(),
        "tasks": {each.task: each.as_json() for each in tasks},
        "finding": overall.sentence,
    }


def _rows_of(results: Results, method: str) -> pd.DataFrame:
    if method not in results.roles():
        raise UnknownNameError("method", method, results.roles(), f"These are the methods of {results.folder}.")
    rows = results.rows()
    return rows[rows["method"] == method]


def _require_same_questions(frames: list[pd.DataFrame], folders: tuple[Results, Results], common: bool) -> None:
    ids = [set(frame["question_id"]) for frame in frames]
    shared = ids[0] & ids[1]
    if not shared:
        raise FingerprintError(f"{folders[0].folder} and {folders[1].folder} have no question in common.")
    if ids[0] != ids[1] and not common:
        raise FingerprintError(
            f"the methods answered different questions, in {folders[0].folder} and in {folders[1].folder}: "
            f"{len(shared)} are in both, {len(ids[0] - shared)} only in the first, {len(ids[1] - shared)} only in the "
            f"second. Give --common to compare on the {len(shared)}."
        )
    gold = [frame.set_index("question_id")["gold"] for frame in frames]
    both = sorted(shared)
    differing = [question for question in both if gold[0][question] != gold[1][question]]
    if differing:
        raise FingerprintError(
            f"{len(differing)} questions have another gold answer in {folders[1].folder} than in {folders[0].folder}, "
            f"e.g. {differing[0]}; they are not the same questions."
        )
