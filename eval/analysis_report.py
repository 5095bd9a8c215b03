"""An analysis as a page to read: Markdown, figures as SVG and PNG, and the data behind them as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.analysis import Analysis
from eval.rechecks import Rechecks
from eval.statistics import Estimate
from polar_env.tables import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["write_analysis"]

_SEARCH, _CHANCE, _GREY, _INK = "#2a6fdb", "#c9c9c9", "#777777", "#222222"


def write_analysis(
    folder: Path, analysis: Analysis, rechecks: Rechecks | None, about: dict[str, Any], work: dict[str, float]
) -> Path:
    """Write everything into a folder.

    Args:
        folder: gets ``analysis.md``, three figures twice and three CSV files.
        analysis: the findings.
        rechecks: what executing again told; None where nothing was executed.
        about: what the traces are of, told in the first line.
        work: what the search has cost.

    Returns:
        The path of the Markdown file.
    """
    _write_csv(folder / "layers.csv", "layer skipped repeated skipped_tried repeated_tried", _layers(analysis))
    _write_csv(folder / "menu.csv", "size added chosen_on held_out low high", _menu(analysis))
    _write_csv(folder / "lengths.csv", "shortest_right_layers", [[length] for length in analysis.lengths])
    for name, draw in (("shares", _draw_shares), ("layers", _draw_layers), ("menu", _draw_menu)):
        _save(folder / name, draw, analysis)
    write_whole(folder / "analysis.md", _markdown(analysis, rechecks, about, work).encode())
    return folder / "analysis.md"


def _layers(analysis: Analysis) -> list[list[Any]]:
    columns = (
        analysis.right_use.skipped,
        analysis.right_use.repeated,
        analysis.all_use.skipped,
        analysis.all_use.repeated,
    )
    return [[layer, *(f"{column[layer]:.4f}" for column in columns)] for layer in range(len(columns[0]))]


def _menu(analysis: Analysis) -> list[list[Any]]:
    return [
        [point.size, point.added, *(f"{v:.4f}" for v in (point.chosen_on, *_interval(point.held_out)))]
        for point in analysis.menu
    ]


def _interval(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _write_csv(path: Path, columns: str, rows: list[list[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns.split(), *rows])
    write_whole(path, text.getvalue().encode())


def _percent(estimate: Estimate | None) -> str:
    return "not measured" if estimate is None else f"{estimate.percent()} of {estimate.count}"


def _points(estimate: Estimate | None) -> str:
    return "" if estimate is None else estimate.percent(sign=True)


def _finding(
    name: str, estimates: Iterable[Estimate | None], as_text: Callable[[Estimate | None], str] = _percent
) -> str:
    return f"| {name} | {' | '.join(map(as_text, estimates))} |"


def _markdown(analysis: Analysis, rechecks: Rechecks | None, about: dict[str, Any], work: dict[str, float]) -> str:
    """The page."""
    a = analysis
    columns = a.search, a.chance, a.singles
    lines = [
        "# What other programs of layers can do",
        "",
        f"{about['model']} ({about['depth']} layers, {about['dtype']}, fingerprint {about['fingerprint']}), prompt "
        f"{about['prompt']}. {a.questions} questions, {a.programs:.0f} programs each besides the identity.",
        "",
        "In percent, with 95 % intervals: Wilson's for shares, a bootstrap over questions for means and differences.",
        "These are oracle numbers: a program counts where any of those tried is right, chosen with the gold answer in",
        "sight. Beside them is what luck finds with as many programs: by chance, programs of 1 to 4 random edits, and",
        "random single edits.",
        "",
        "| finding | search | chance | single edits |",
        "|---|---|---|---|",
        f"| the identity is right | {_percent(a.identity)} | | |",
        _finding("of these, a shorter program is, too", (c.shorter for c in columns)),
        _finding("of these, layers of the shortest right program", (c.shortest for c in columns)),
        _finding("of the others, some program is right", (c.fixed for c in columns)),
        _finding("of the others, the search fixes so many points more", (c.behind for c in columns), _points),
        "",
        f"Shortest right program of any question: {a.shortest_cost:.3f} of the layers on average; shortest 5 % of all "
        f"right programs: {a.shortest_5_cost:.3f}.",
        "",
        "![shares](shares.svg)",
        "",
        "## By kind of program",
        "| kind | identity right: shorter and right | identity wrong: right |",
        "|---|---|---|",
        *(_finding(kind, [reached.shorter, reached.fixed]) for kind, reached in a.by_kind.items()),
        "",
        "## By task and difficulty",
        "| task | difficulty | questions | identity right | fixed | shortest right, of the layers |",
        "|---|---|---|---|---|---|",
        *(
            f"| {task} | {difficulty} | {count} | {_percent(right)} | {_percent(fixed)} | {length:.3f} |"
            for (task, difficulty), (count, right, fixed, length) in a.by_difficulty.items()
        ),
        "",
        "## Layers",
        f"Entropy of layer use, 1 where all run alike: {a.right_use.entropy:.4f} in {a.right_use.programs} right "
        f"programs, {a.all_use.entropy:.4f} in all {a.all_use.programs} that were tried.",
        "",
        "![layers](layers.svg)",
        "",
    ]
    return "\n".join(lines + _menu_section(a) + _recheck_section(rechecks) + _cost_section(work))


def _menu_section(analysis: Analysis) -> list[str]:
    if not analysis.menu:
        return []
    return [
        "## A menu for all questions",
        "Greedy menus of the programs that won the race, chosen on train questions, measured on validation questions.",
        "Any of the menu counts, so this bounds what an agent that chooses from it can reach.",
        "",
        "| size | added | train | held out |",
        "|---|---|---|---|",
        *(f"| {p.size} | {p.added} | {100 * p.chosen_on:.1f} | {_percent(p.held_out)} |" for p in analysis.menu),
        "",
        "![menu](menu.svg)",
        "",
    ]


def _recheck_section(rechecks: Rechecks | None) -> list[str]:
    if rechecks is None:
        return []
    return [
        "## Executed again",
        f"- Verdicts that change when each is executed alone: {_percent(rechecks.changed)}; of fixes, right programs "
        f"where the identity is wrong: {_percent(rechecks.fixes_lost)}.",
        f"- On open questions, verdicts that change when the program writes its answer and the verifier reads it: "
        f"{_percent(rechecks.regenerated)}; of fixes: {_percent(rechecks.fixes_not_written)}.",
        f"- Fixes by two changes or more, one of each question, still right with a random one undone: "
        f"{_percent(rechecks.survives)}; with at least one that is needless: {_percent(rechecks.needless)}.",
        "",
    ]


def _cost_section(work: dict[str, float]) -> list[str]:
    if not work:
        return []
    return [
        "## Cost",
        f"{work['simulations']:.0f} simulations, {work['layer_executions']:.0f} layer executions; without "
        f"sharing {work['sharing_factor']:.1f} times as many tokens would have gone through layers; "
        f"{work['seconds']:.0f} s.",
        "",
    ]


def _save(stem: Path, draw: Any, analysis: Analysis) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes, analysis)
    for kind in ("svg", "png"):
        sink = io.BytesIO()
        # Without a date and with fixed ids, the same analysis is the same file.
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(sink, format=kind, dpi=130, metadata=metadata)
        write_whole(stem.with_suffix(f".{kind}"), sink.getvalue())


def _draw_shares(axes: Axes, analysis: Analysis) -> None:
    names = ["a shorter program\nis right, too", "some program is right\nwhere the identity is wrong"]
    found = {
        "search": (analysis.search, _SEARCH),
        "chance": (analysis.chance, _CHANCE),
        "single edits": (analysis.singles, _GREY),
    }
    for offset, (label, (reached, colour)) in enumerate(found.items()):
        for row, estimate in enumerate((reached.shorter, reached.fixed)):
            if estimate is None:
                continue
            error = [[100 * (estimate.value - estimate.low)], [100 * (estimate.high - estimate.value)]]
            axes.barh(
                row + 0.27 * (offset - 1), 100 * estimate.value, 0.24, color=colour, xerr=error, ecolor=_INK,
                label=label if label not in axes.get_legend_handles_labels()[1] else None,
            )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of questions, 95 % interval")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))


def _draw_layers(axes: Axes, analysis: Analysis) -> None:
    layers = range(len(analysis.right_use.skipped))
    for use, colour, name in ((analysis.right_use, _SEARCH, "right programs"), (analysis.all_use, _GREY, "all tried")):
        axes.plot(layers, 100 * use.skipped, color=colour, label=f"skipped, {name}")
        axes.plot(layers, 100 * use.repeated, color=colour, linestyle="--", label=f"repeated, {name}")
    axes.set_xlabel("layer")
    axes.set_ylabel("% of programs")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize="small")


def _draw_menu(axes: Axes, analysis: Analysis) -> None:
    sizes = [point.size for point in analysis.menu]
    axes.plot(sizes, [100 * p.chosen_on for p in analysis.menu], color=_GREY, linestyle="--", label="chosen on")
    axes.plot(sizes, [100 * p.held_out.value for p in analysis.menu], color=_SEARCH, label="held out")
    low, high = [100 * p.held_out.low for p in analysis.menu], [100 * p.held_out.high for p in analysis.menu]
    axes.fill_between(sizes, low, high, color=_SEARCH, alpha=0.15, linewidth=0)
    axes.set_xlabel("programs in the menu, the identity among them")
    axes.set_ylabel("% of questions with a right one")
    if sizes:
        axes.legend(frameon=False)
