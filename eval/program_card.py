"""The card of a program or an agent: one page that any claim about it can link to, from an evaluation's files alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from agents.card import WARM_START, read_card
from agents.registry import find_agent
from eval.comparison import ALL_TASKS
from eval.methods import ALSO_BEST_STATIC, BEST_STATIC, IDENTITY
from eval.prompts import MEASURED
from eval.report import summary_of
from eval.report.rendering import render
from eval.results import Results
from eval.summary_tables import comparison_table
from eval.timing import read_timings, timing_table
from eval.variations import read_variations, variation_table
from polar_env.errors import ConfigError, ProgramError, UnknownNameError
from polar_env.program import Program
from polar_env.questions import Prompts
from polar_env.tables import write_whole

__all__ = ["write_card"]

_SHOWN = 10
"""Programs that a card lists."""


def write_card(results: Results, name: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Write ``card.md`` and ``card.json``.

    Args:
        results: an evaluation in which it was measured.
        name: a method's name there, the text of a static program, or the folder of a saved agent.
        folder: where the two files go.

    Returns:
        The path of the page, and the content of the JSON file.

    Raises:
        UnknownNameError: if it was not measured there, or for a folder of several agents.
        ConfigError: if it has no answers there yet.
    """
    meta, rows = results.meta, results.rows()
    method, summary = _method(results, rows, name), summary_of(results)
    programs = rows.loc[rows["method"] == method, "program"].value_counts()
    comparisons = {of[method][ALL_TASKS].base: of[method] for of in summary.comparisons.values() if method in of}
    timings = [each for each in read_timings(results.folder) if each.method in (method, IDENTITY)]
    varied = [each for each in read_variations(results.folder) if each.method == method]
    values = {
        "method": method,
        **{key: meta[key] for key in ("model", "fingerprint", "depth", "dtype", "device", "versions")},
        "prompt": Prompts.model_validate(meta["prompts"]).name,
        "protocol_version": meta["protocol_version"],
        "role": summary.methods[method].role,
        "chosen": {str(program): int(count) for program, count in programs.head(_SHOWN).items()},
        **summary.as_json()[method],
        "timings": [asdict(each) for each in timings],
        "variations": [asdict(each) for each in varied],
        "chosen_on": results.chosen_on(method),
        "findings": [each[ALL_TASKS].sentence for each in comparisons.values()],
    }
    page = render(
        "card.md",
        card=values,
        numbers=summary.methods[method],
        comparisons={base: comparison_table({method: of}).markdown() for base, of in comparisons.items()},
        timings=timing_table(timings).markdown() if timings else None,
        variations=variation_table(varied, summary.claims).markdown() if varied else None,
        few=MEASURED,
        form_repair=summary.form_repair.get(method),
        agreement=summary.agreement.get(method),
    )
    write_whole(folder / "card.md", page.encode())
    write_whole(folder / "card.json", json.dumps(values, indent=2).encode())
    return folder / "card.md", values


def _method(results: Results, rows: pd.DataFrame, name: str) -> str:
    """The name in the results of what a user calls by name, program or folder."""
    method = _method_called(results, rows, name)
    if method is None:
        raise UnknownNameError("method", name, results.roles(), f"These are the methods of {results.folder}.")
    if not rows["method"].eq(method).any():
        raise ConfigError(f"{results.folder} holds no answers of '{method}' yet; let `polar eval` finish first.")
    return method


def _method_called(results: Results, rows: pd.DataFrame, name: str) -> str | None:
    roles, meta = results.roles(), results.meta
    if name in roles:
        return name
    folder = find_agent(name)
    if folder is not None:
        card = read_card(folder)  # a warm start that training left as it was has no row of its own, but its weights do
        keys = ("card", card.digest), *([("weights", card.weights)] if card.name == WARM_START else [])
        measured = [(key, each) for key in keys for each in meta["methods"].values()]
        return next((each["name"] for (key, value), each in measured if each[key] == value), None)
    if name == BEST_STATIC and meta["remarks"].get(IDENTITY) == ALSO_BEST_STATIC:
        return IDENTITY
    try:
        program = str(Program.parse(name, int(meta["depth"])))
    except ProgramError:
        return None
    static = (method for method, role in roles.items() if role == "static")
    return next((each for each in static if rows.loc[rows["method"] == each, "program"].eq(program).all()), None)
