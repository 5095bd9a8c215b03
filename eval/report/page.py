"""The page of an evaluation: numbers and figures from the results' files alone, layout from ``report.html``."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from eval.evaluate import ORACLE, Results
from eval.report.examples import Example, choose_examples
from eval.report.figures import DARK, LIGHT, accuracy_figure, examples_figure, executions_figure, png
from eval.report.rendering import render
from eval.summary import MethodSummary, shorter_share, slower_notes, summarise, summary_table, task_table
from eval.table import Table
from polar_env.questions import Prompts
from polar_env.tables import write_whole

__all__ = ["write_report"]


@dataclass(frozen=True)
class _Image:
    """A figure as data URIs, for a light and for a dark page."""

    light: str
    dark: str


def write_report(
    folder: Path,
    results: Results,
    notes: Sequence[str] = (),
    verdicts: Table | None = None,
    title: str = "Programs of layers: evaluation",
) -> Path:
    """Write ``table.md``, ``report.html`` and ``figures/*.png`` from results.

    Args:
        folder: where the files go.
        results: the rows of each question and method.
        notes: further sentences about the measurement, one each.
        verdicts: how often teacher-forced verdicts agree with generated answers; None where no answer was generated.
        title: heading of the page.

    Returns:
        The path of the page.
    """
    rows, meta = results.rows(), results.meta
    depth = int(meta["depth"])
    summaries = summarise(rows, depth, meta.get("remarks"))
    examples = choose_examples(rows, depth)
    tables = {"summary": summary_table(summaries), "tasks": task_table(rows), "verdicts": verdicts}
    notes = [*_notes(meta, summaries), *slower_notes(summaries), *_shorter_note(rows, depth), *notes]
    parts = [f"# {title}", *(table.markdown() for table in tables.values() if table), *notes]
    write_whole(folder / "table.md", "\n\n".join(parts).encode())
    _write_figures(folder / "figures", summaries, examples, depth)
    page = render(
        "report.html",
        title=title,
        meta=meta,
        prompt=Prompts.model_validate(meta["prompts"]).name,
        questions=max(summary.questions for summary in summaries.values()),
        **tables,
        accuracy=_image(partial(accuracy_figure, summaries)),
        executions=_image(partial(executions_figure, summaries)),
        examples=[(one, _image(partial(examples_figure, [one], depth, titles=False))) for one in examples],
        notes=notes,
    )
    write_whole(folder / "report.html", page.encode())
    return folder / "report.html"


def _notes(meta: dict[str, Any], summaries: dict[str, MethodSummary]) -> list[str]:
    prompts = Prompts.model_validate(meta["prompts"])
    notes = [
        f"Model {meta['model']} ({meta['depth']} layers, {meta['dtype']}, fingerprint {meta['fingerprint']}); prompt "
        f"'{prompts.name}', the same for every method.",
        "pass@1: a method names one program without seeing the answer. Verdicts are teacher-forced: an answer is right "
        "where every token of the gold answer and its end is the most likely one. Intervals: Wilson for shares, paired "
        "bootstrap over questions (10,000 resamples) for differences; p: McNemar's exact test.",
        "Token-layers: tokens through layers of the LLM per question, as executed, worked examples included; agent "
        "MFLOPs: of the agent itself. ms / question: time to decide and execute, teacher-forced (no decoding), in "
        "batches of 32 questions; caches are empty when a method starts.",
    ]
    if ORACLE in summaries:
        notes.append(
            f"The oracle is a search that sees the gold answer of {summaries[ORACLE].questions} of the questions. It "
            "is an upper bound; do not compare an agent with it as with a peer."
        )
    return notes


def _shorter_note(rows: Sequence[dict[str, Any]], depth: int) -> list[str]:
    shorter = shorter_share(rows, depth)
    if shorter is None:
        return []
    return [
        f"For {shorter.percent()} % of the {shorter.count} searched questions that the identity gets right, the "
        "search found a right program of fewer layers."
    ]


def _write_figures(folder: Path, summaries: dict[str, MethodSummary], examples: Sequence[Example], depth: int) -> None:
    figures: dict[str, Callable[..., Any]] = {
        "accuracy": partial(accuracy_figure, summaries),
        "executions": partial(executions_figure, summaries),
    }
    if examples:
        figures["programs"] = partial(examples_figure, examples, depth)
    for name, draw in figures.items():
        write_whole(folder / f"{name}.png", png(draw, LIGHT))


def _image(draw: Callable[..., Any]) -> _Image:
    return _Image(*(f"data:image/png;base64,{base64.b64encode(png(draw, theme)).decode()}" for theme in (LIGHT, DARK)))
