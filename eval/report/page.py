"""The page of an evaluation: numbers and figures from the results' files alone, layout from ``report.html``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from eval.agreement import agreement_table, disagreements
from eval.choices import choice_table
from eval.methods import BEST_STATIC, IDENTITY, ORACLE
from eval.prompts import choice_table as prompt_table
from eval.prompts import read_choices
from eval.report.examples import choose_examples, contrasts
from eval.report.figures import (
    DARK,
    LIGHT,
    accuracy_figure,
    calibration_figure,
    examples_figure,
    executions_figure,
    headline_figure,
    png,
    task_executions_figure,
    tasks_figure,
)
from eval.report.rendering import render
from eval.results import Results
from eval.summary import Summary, mean_executions, shorter_share, summarise
from eval.summary_tables import comparison_table, method_table, slower_notes, task_table
from eval.table import Table
from eval.timing import read_timings, timing_table
from eval.variations import read_variations, variation_table
from polar_env.questions import Prompts
from polar_env.tables import write_whole

__all__ = ["summary_of", "write_report"]

_FEW = 30
"""Questions below which a task is said to be small."""


@dataclass(frozen=True)
class _Image:
    """A figure as PNG, for a light and for a dark page."""

    light: bytes
    dark: bytes


def summary_of(results: Results) -> Summary:
    """All numbers of an evaluation, from its files alone."""
    meta = results.meta
    return summarise(
        results.rows(), int(meta["depth"]), results.roles(),
        remarks=meta["remarks"], timings=read_timings(results.folder), families=results.families(),
        seed=int(meta["config"].get("seed", 0)),
    )  # fmt: skip


def write_report(folder: Path, results: Results, title: str = "Programs of layers: evaluation") -> Path:
    """Write ``table.md``, ``report.html`` and ``figures/*.png`` from results.

    Args:
        folder: where the files go.
        results: the rows of each question and method; timings lie beside their folder.
        title: heading of the page.

    Returns:
        The path of the page.
    """
    rows, meta, summary = results.rows(), results.meta, summary_of(results)
    depth = int(meta["depth"])
    shown = [*summary.agents, *([] if summary.agents else [BEST_STATIC])]
    comparisons = {
        f"Against {base}": comparison_table(each, shown, summary.form_repair if base == IDENTITY else None)
        for base, each in _by_base(summary).items()
    }
    tables = _tables(results, rows, summary)
    notes = [*_notes(meta, summary), *slower_notes(summary), *_shorter_note(rows, depth)]
    parts = [
        f"# {title}",
        "\n".join(f"- {sentence}" for sentence in summary.sentences),
        *(f"## {name}\n\n{table.markdown()}" for name, table in comparisons.items()),
        *(f"## {name.capitalize()}\n\n{table.markdown()}" for name, table in tables.items() if table),
        *notes,
    ]
    write_whole(folder / "table.md", "\n\n".join(parts).encode())
    examples = choose_examples(rows, depth)
    images = {name: _image(draw) for name, draw in _figures(rows, summary, depth).items()}
    for name, image in images.items():
        write_whole(folder / "figures" / f"{name}.png", image.light)
    if examples:
        write_whole(folder / "figures" / "programs.png", png(partial(examples_figure, examples, depth), LIGHT))
    follower = _last_chooser(rows, summary)
    method, base, contrasted = contrasts(rows, summary)
    page = render(
        "report.html",
        title=title,
        meta=meta,
        prompt=Prompts.model_validate(meta["prompts"]).name,
        questions=rows["question_id"].nunique(),
        sentences=summary.sentences,
        comparisons=comparisons,
        **tables,
        disagreements=disagreements(rows),
        images=images,
        chooser=follower,
        choices=choice_table(rows[rows["method"] == follower]) if follower else None,
        contrasted=(method, base, contrasted),
        examples=[(one, _image(partial(examples_figure, [one], depth, titles=False))) for one in examples],
        notes=notes,
    )
    write_whole(folder / "report.html", page.encode())
    return folder / "report.html"


def _tables(results: Results, rows: pd.DataFrame, summary: Summary) -> dict[str, Table | None]:
    timings, varied = read_timings(results.folder), read_variations(results.folder)
    chosen = read_choices(results.folder)
    return {
        "methods": method_table(summary),
        "tasks": task_table(summary),
        "verdicts": agreement_table(rows),
        "timings": timing_table(timings) if timings else None,
        "prompts": prompt_table(chosen) if chosen else None,
        "variations": variation_table(varied, summary.claims) if varied else None,
    }


def _by_base(summary: Summary) -> dict[str, Any]:
    return {next(iter(next(iter(of.values())).values())).base: of for of in summary.comparisons.values() if of}


def _last_chooser(rows: pd.DataFrame, summary: Summary) -> str | None:
    """The last learned agent, if it chose more than one program."""
    return next((name for name in summary.agents if summary.methods[name].programs > 1), None)


def _figures(rows: pd.DataFrame, summary: Summary, depth: int) -> dict[str, Callable[..., Any]]:
    methods, shown = summary.methods, [*summary.agents] or [BEST_STATIC]
    figures: dict[str, Callable[..., Any]] = {}
    if any(name in of for of in summary.comparisons.values() for name in shown):
        figures["headline"] = partial(headline_figure, summary.comparisons, shown)
    figures["accuracy"] = partial(accuracy_figure, methods)
    if summary.comparisons.get("vs_identity"):
        figures["tasks"] = partial(tasks_figure, summary.comparisons["vs_identity"])
    figures["executions"] = partial(executions_figure, methods)
    last = next(iter(summary.agents), None)
    if last is not None:
        by_task = {str(task): mean_executions(of, depth) for task, of in rows[rows["method"] == last].groupby("task")}
        figures["task_executions"] = partial(task_executions_figure, by_task, last)
    calibrated = [name for name in (IDENTITY, BEST_STATIC, *summary.agents[:1]) if name in methods]
    if rows["question_id"].nunique() >= 10:
        figures["calibration"] = partial(calibration_figure, rows, calibrated)
    return figures


def _notes(meta: dict[str, Any], summary: Summary) -> list[str]:
    prompts = Prompts.model_validate(meta["prompts"])
    versions = ", ".join(f"{name} {version}" for name, version in meta["versions"].items())
    notes = [
        f"Model {meta['model']} ({meta['depth']} layers, {meta['dtype']} on {meta['device']}, fingerprint "
        f"{meta['fingerprint']}); prompt '{prompts.name}', the same for every method; seed "
        f"{meta['config'].get('seed', 0)}; {versions}; protocol version {meta['protocol_version']}.",
        "pass@1: a method answers without seeing the gold answer. Open questions are answered by greedy decoding and "
        "judged by the task's verifier; of choices the likeliest per token counts. Intervals: Wilson for shares, "
        "paired bootstrap over questions (10,000 resamples) for differences; p: McNemar's exact test, corrected by "
        "Holm over all agents (and apart over all baselines) and tasks that are compared with the same baseline.",
        "Could show: the smallest difference that as many questions, with as many that differ, show in four of five "
        "evaluations. GFLOPs: of LLM and agent for one answer, the worked examples left out. ms / question: timed on a "
        "few questions, in batches of 32, worked examples ready.",
    ]
    small = {t: n for t, n in _task_sizes(summary).items() if n < _FEW}
    if small:
        notes.append(
            f"Fewer than {_FEW} questions: {', '.join(f'{task} ({count})' for task, count in small.items())}. What is "
            "said of these tasks alone is next to nothing."
        )
    if ORACLE in summary.methods:
        notes.append(
            f"The oracle is a search that sees the gold answer of {summary.methods[ORACLE].pass_at_1.count} of the "
            "questions. It is an upper bound; do not compare an agent with it as with a peer."
        )
    return notes


def _task_sizes(summary: Summary) -> dict[str, int]:
    """Questions of each task, by the method that answered most of them."""
    sizes: dict[str, int] = {}
    for method in summary.methods.values():
        for task, estimate in method.by_task.items():
            sizes[task] = max(sizes.get(task, 0), estimate.count)
    return sizes


def _shorter_note(rows: pd.DataFrame, depth: int) -> list[str]:
    shorter = shorter_share(rows, depth)
    if shorter is None:
        return []
    return [
        f"For {shorter.percent()} % of the {shorter.count} searched questions that the identity gets right, the "
        "search found a right program of fewer layers."
    ]


def _image(draw: Callable[..., Any]) -> _Image:
    return _Image(png(draw, LIGHT), png(draw, DARK))
