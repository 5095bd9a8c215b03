"""The report: one self-contained HTML page with plots, made from the results' files alone."""

from __future__ import annotations

import base64
import html
import io
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eval.evaluate import ORACLE, Results
from eval.summary import IDENTITY, MethodSummary, markdown_table, shorter_share, slower_notes, summarise, task_table
from polar_env.envs.rendering import draw_program
from polar_env.program import Program
from polar_env.questions import Prompts
from polar_env.tables import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_report"]

_EXAMPLES_NOTE = "Picked for variety, right answers first: the table says how often a method is right, not these."
_VERDICTS_NOTE = (
    "<p class=note>Generated: greedy decoding under the same program, judged by the question's verifier. Only "
    "teacher-forced: every gold token was the most likely one, but what was written is judged wrong; only generated: "
    "the verifier reads the gold answer in what was written, in another form or at the end of a text cut off.</p>"
)
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:980px;margin:2rem auto;padding:0 1rem;color:#1d2330}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}table{border-collapse:collapse;font-size:.9rem}
th,td{border-bottom:1px solid #d8dce3;padding:.35rem .7rem;text-align:left}td{font-variant-numeric:tabular-nums}
img{max-width:100%}.note{color:#555e70;font-size:.9rem}
"""


def write_report(
    folder: Path,
    results: Results,
    notes: Sequence[str] = (),
    verdicts: str = "",
    title: str = "Programs of layers: evaluation",
) -> Path:
    """Write ``table.md``, ``report.html`` and ``figures/*.png`` from results.

    Args:
        folder: where to.
        results: the per-question rows.
        notes: what else a reader must know, a sentence each.
        verdicts: table of how often teacher-forced verdicts agree with generated answers; empty where none was made.
        title: heading of the page.

    Returns:
        The path of the page.
    """
    rows, meta = results.rows(), results.meta
    depth = int(meta["depth"])
    summaries = summarise(rows, depth, meta["remarks"])
    table, tasks = markdown_table(summaries), task_table(rows)
    shorter = shorter_share(rows, depth)
    notes = [*_notes(meta, summaries), *slower_notes(summaries), *notes]
    if shorter is not None:
        notes.append(
            f"For {shorter.percent()} % of the {shorter.count} searched questions that the identity gets right, "
            f"the search found a right program of fewer layers."
        )
    write_whole(folder / "table.md", "\n\n".join(filter(None, [f"# {title}", table, tasks, verdicts, *notes])).encode())
    figures = {
        "accuracy": _accuracy_plot(summaries),
        "executions": _heat_map(summaries, depth),
        "programs": _examples(rows, depth),
    }
    images = {name: _png(figure) for name, figure in figures.items()}
    for name, image in images.items():
        write_whole(folder / "figures" / f"{name}.png", image)
    sections = [
        ("Results", _html_table(table)),
        ("Accuracy against layers", _img(images["accuracy"])),
        ("By task", _html_table(tasks) + "<p class=note>pass@1 in percent.</p>"),
        ("Executions per layer", _img(images["executions"])),
        ("Example programs", _img(images["programs"]) + f"<p class=note>{_EXAMPLES_NOTE}</p>"),
        ("Teacher-forced verdicts and generated answers", verdicts and _html_table(verdicts) + _VERDICTS_NOTE),
        ("How this was measured", "".join(f"<p class=note>{html.escape(note)}</p>" for note in notes)),
    ]
    body = "".join(f"<h2>{name}</h2>{content}" for name, content in sections if content)
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
    )
    path = folder / "report.html"
    write_whole(path, f"{page}<h1>{html.escape(title)}</h1>{body}</html>".encode())
    return path


def _notes(meta: dict[str, Any], summaries: dict[str, MethodSummary]) -> list[str]:
    prompts = Prompts.model_validate(meta["prompts"])
    notes = [
        f"Model {meta['model']} ({meta['depth']} layers, {meta['dtype']}, fingerprint {meta['fingerprint']}); prompt "
        f"'{prompts.name}', the same for every method.",
        "pass@1: the one program that a method names without seeing the answer. A verdict is teacher-forced: right "
        "where every token of the gold answer and its end is the most likely one. Intervals: Wilson for shares, paired "
        "bootstrap over questions (10,000 resamples) for differences; p: McNemar's exact test.",
        "ms / question: proposing and executing together, teacher-forced (no decoding), batches of 32 questions, "
        "caches empty at each method's start.",
    ]
    if ORACLE in summaries:
        notes.append(
            f"The oracle is a search that sees the gold answer, on {summaries[ORACLE].questions} of the questions: an "
            "upper bound that no agent may be compared to as a peer."
        )
    return notes


def _html_table(markdown: str) -> str:
    lines = [line.strip("|").split("|") for line in markdown.splitlines() if not re.fullmatch(r"[|\-]+", line)]
    head, *rest = [[html.escape(cell.strip()) for cell in line] for line in lines]
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rest)
    return "<table><tr>" + "".join(f"<th>{cell}</th>" for cell in head) + f"</tr>{body}</table>"


def _png(figure: Figure) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=130)
    return sink.getvalue()


def _img(png: bytes) -> str:
    return f"<img alt='' src='data:image/png;base64,{base64.b64encode(png).decode()}'>"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _accuracy_plot(summaries: dict[str, MethodSummary]) -> Figure:
    figure = _figure(7.5, 4.2)
    axes = figure.add_subplot()
    for marker, s in zip(itertools.cycle("os^vP*X"), summaries.values(), strict=False):
        low, high = s.pass_at_1.value - s.pass_at_1.low, s.pass_at_1.high - s.pass_at_1.value
        shape = "D" if s.method == ORACLE else marker
        label = f"{s.method} ({s.remark})" if s.remark else s.method
        axes.errorbar(
            s.mean_cost,
            100 * s.pass_at_1.value,
            yerr=[[100 * low], [100 * high]],
            capsize=4,
            label=label,
            fmt=shape,
            alpha=0.7,
        )
    if IDENTITY in summaries:
        axes.axhline(100 * summaries[IDENTITY].pass_at_1.value, color="#b0b5bf", lw=0.8, zorder=0)
    axes.set_xlabel("mean executed layers / D")
    axes.set_ylabel("pass@1, % (95 % interval)")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _heat_map(summaries: dict[str, MethodSummary], depth: int) -> Figure:
    figure = _figure(9, 0.6 + 0.42 * len(summaries))
    axes = figure.add_subplot()
    values = np.stack([s.executions for s in summaries.values()])  # [methods, D]
    image = axes.imshow(values, aspect="auto", cmap="RdBu_r", vmin=0.0, vmax=2.0)
    axes.set_yticks(range(len(summaries)), list(summaries))
    axes.set_xticks(range(0, depth, max(1, depth // 15)))
    axes.set_xlabel("layer")
    figure.colorbar(image, ax=axes, label="mean executions")
    return figure


def _examples(rows: Sequence[dict[str, Any]], depth: int, count: int = 8) -> Figure:
    """Programs that differ from the identity: the learnt agent's first, one of each kind, then the oracle's."""
    identity = str(Program.identity(depth))
    base = {row["question_id"]: row["right"] for row in rows if row["method"] == IDENTITY}
    learnt = [m for m in dict.fromkeys(row["method"] for row in rows) if m not in (IDENTITY, "random", ORACLE)]
    chosen: dict[str, dict[str, Any]] = {}
    for method in [*reversed(learnt), ORACLE]:
        ranked = [row for row in rows if row["method"] == method and row["program"] != identity]
        for row in sorted(ranked, key=lambda r: (not r["right"], base.get(r["question_id"], False))):
            if len([c for c in chosen.values() if c["method"] == method]) < count // 2:
                chosen.setdefault(row["program"], row)
    shown = list(chosen.values())[:count]
    figure = _figure(9, 1.05 * max(1, len(shown)))
    if not shown:
        figure.text(0.5, 0.5, "every method chose the identity program", ha="center")
        return figure
    for axes, row in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True):
        was = "right" if base.get(row["question_id"]) else "wrong"
        verdict = "right" if row["right"] else "wrong"
        title = (
            f"{row['method']}: {row['text']}  gold {row['answer']}: {verdict} (identity {was}), {row['layers']} layers"
        )
        draw_program(axes, Program.parse(row["program"]), depth, title)
    return figure
