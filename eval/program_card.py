"""The card of a program or an agent: one page that any claim about it can link to, from an evaluation's files alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.card import read_card
from agents.registry import find_agents
from eval.comparison import ALL_TASKS
from eval.report import TIMINGS, summary_of
from eval.report.rendering import render
from eval.results import Results
from eval.summary import comparison_table
from eval.timing import read_timings, timing_table
from polar_env.errors import ProgramError, UnknownNameError
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
        UnknownNameError: if it was not measured there.
    """
    method, meta, rows, summary = _method(results, name), results.meta, results.rows(), summary_of(results)
    programs = rows.loc[rows["method"] == method, "program"].value_counts()
    comparisons = {of[method][ALL_TASKS].base: of[method] for of in summary.comparisons.values() if method in of}
    timings = [each for each in read_timings(results.folder.parent / TIMINGS) if each.method in (method, "identity")]
    values = {
        "method": method,
        **{key: meta[key] for key in ("model", "fingerprint", "depth", "dtype", "device", "versions")},
        "prompt": Prompts.model_validate(meta["prompts"]).name,
        "protocol_version": meta["protocol_version"],
        "role": summary.methods[method].role,
        "chosen": {str(program): int(count) for program, count in programs.head(_SHOWN).items()},
        **summary.as_json()[method],
        "timings": [asdict(each) for each in timings],
        "chosen_on": results.chosen_on(method),
        "findings": [each[ALL_TASKS].sentence for each in comparisons.values()],
    }
    page = render(
        "card.md",
        card=values,
        numbers=summary.methods[method],
        comparisons={base: comparison_table({method: of}).markdown() for base, of in comparisons.items()},
        timings=timing_table(timings).markdown() if timings else None,
        form_repair=summary.form_repair.get(method),
        agreement=summary.agreement.get(method),
    )
    write_whole(folder / "card.md", page.encode())
    write_whole(folder / "card.json", json.dumps(values, indent=2).encode())
    return folder / "card.md", values


def _method(results: Results, name: str) -> str:
    """The name in the results of what a user calls by name, program or folder."""
    roles, folders = results.roles(), find_agents(name)
    if folders:
        name = read_card(folders[0]).name
    if name in roles:
        return name
    try:
        program = str(Program.parse(name, int(results.meta["depth"])))
    except ProgramError:
        program = ""
    rows = results.rows()
    for method, role in roles.items():
        if role == "static" and program and rows.loc[rows["method"] == method, "program"].eq(program).all():
            return method
    raise UnknownNameError("method", name, roles, f"These are the methods of {results.folder}.")
