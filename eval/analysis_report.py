"""An analysis as a page to read: Markdown, figures as SVG and PNG, and the data behind them as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.analysis import Analysis, Coverage
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
        folder: gets ``analysis.md``, its figures twice and four CSV files.
        analysis: the findings.
        rechecks: what executing again told; None where nothing was executed.
        about: what the traces are of, told in the first line.
        work: what the search has cost.

    Returns:
        The path of the Markdown file.
    """
    _write_csv(folder / "layers.csv", "layer skipped repeated skipped_tried repeated_tried", _layers(analysis))
    _write_csv(folder / "menu.csv", "size added chosen_on held_out low high", _menu(analysis))
    analysis.lengths.to_csv(folder / "lengths.csv")
    _write_csv(folder / "groups.csv", "task difficulty questions source share value low high count", _groups(analysis))
    for name, draw in (("shares", _draw_shares), ("layers", _draw_layers)):
        _save(folder / name, draw, analysis)
    if analysis.menu:
        _save(folder / "menu", _draw_menu, analysis)
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


def _groups(analysis: Analysis) -> list[list[Any]]:
    """A row for each share and length of each task and difficulty."""
    rows: list[list[Any]] = []
    for (task, difficulty), group in analysis.by_group.items():
        shares = {("identity", "right"): group.identity, ("search", "shortest right layers / D"): group.lengths}
        for name in ("search", "chance", "singles"):
            reached = getattr(group, name)
            shares |= {(name, key): getattr(reached, key) for key in ("shorter", "fixed")}
        rows += [
            [task, difficulty, group.questions, *key, *(f"{v:.4f}" for v in _interval(found)), found.count]
            for key, found in shares.items()
            if found
        ]
    return rows


def _interval(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _write_csv(path: Path, columns: str, rows: list[list[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns.split(), *rows])
    write_whole(path, text.getvalue().encode())


def _percent(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.percent()} of {estimate.count}"


def _fraction(estimate: Estimate | None, digits: int = 3) -> str:
    if estimate is None:
        return "-"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _gain(reached: Coverage) -> str:
    if reached.search_gain is None:
        return "-"
    won_and_lost = f"{reached.search_won} to {reached.search_lost}"
    return f"{reached.search_gain.percent(sign=True)}; {won_and_lost}, p {reached.search_p:.2g}"


def _finding(name: str, estimates: Iterable[Estimate | None]) -> str:
    return f"| {name} | {' | '.join(map(_percent, estimates))} |"


def _markdown(analysis: Analysis, rechecks: Rechecks | None, about: dict[str, Any], work: dict[str, float]) -> str:
    """The page."""
    whole = analysis.overall
    columns = whole.search, whole.chance, whole.singles
    lines = [
        "# What other programs of layers can do",
        "",
        f"{about['model']} ({about['depth']} layers, {about['dtype']}, fingerprint {about['fingerprint']}), prompt "
        f"{about['prompt']}. {whole.questions} questions, {analysis.programs:.0f} programs each besides the identity.",
        "",
        "In percent, with 95 % intervals: Wilson's for shares, a bootstrap over questions for all else.",
        "These are oracle numbers: a program counts where any of those tried is right, chosen with the gold answer in",
        "sight. Beside them is what as many programs find without search: by chance, programs of 1 to 4 random edits;",
        "and random single edits (all, where there are no more). In the last row also how many questions the search",
        "alone fixes, how many the others alone, and McNemar's p. - : not tried, or there are no such questions.",
        "",
        "| finding | search | chance | single edits |",
        "|---|---|---|---|",
        f"| the identity is right | {_percent(whole.identity)} | | |",
        _finding("of these, a shorter program is, too", (c.shorter for c in columns)),
        _finding("of these, layers of the shortest right program", (c.shortest for c in columns)),
        _finding("of the others, some program is right", (c.fixed for c in columns)),
        f"| of the others, the search fixes so many points more | {' | '.join(map(_gain, columns))} |",
        "",
        f"Shortest right program of any question: {_fraction(whole.lengths)} of the layers on average; shortest 5 % of "
        f"all right programs: {_fraction(analysis.shortest_5_cost)}.",
        "",
        "![shares](shares.svg)",
        "",
        "## By kind of program",
        "What the search's programs of one kind reach, whose numbers differ; a program that only repeats is longer.",
        "",
        "| kind | programs tried | identity right: shorter and right | identity wrong: right |",
        "|---|---|---|---|",
        *(
            f"| {kind} | {tried} | {_percent(reached.shorter)} | {_percent(reached.fixed)} |"
            for kind, (tried, reached) in analysis.by_kind.items()
        ),
        "",
        "## By task and difficulty",
        "| task | difficulty | questions | identity right | fixed | by chance | by single edits | "
        "shortest right, of the layers |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {task} | {difficulty} | {group.questions} | {_percent(group.identity)} | "
            + " | ".join(_percent(c.fixed) for c in (group.search, group.chance, group.singles))
            + f" | {_fraction(group.lengths)} |"
            for (task, difficulty), group in analysis.by_group.items()
        ),
        "",
        "## Layers",
        f"Entropy of layer use, 1 where all run alike: {_fraction(analysis.right_use.entropy, 5)} in "
        f"{analysis.right_use.programs} right programs, {_fraction(analysis.all_use.entropy, 5)} in all "
        f"{analysis.all_use.programs} that were tried.",
        "",
        "![layers](layers.svg)",
        "",
    ]
    return "\n".join(lines + _menu_section(analysis) + _recheck_section(rechecks) + _cost_section(work))


def _menu_section(analysis: Analysis) -> list[str]:
    if not analysis.menu:
        return [
            "No menu for all questions: that wants a race, and validation questions that all its survivors ran on.",
            "",
        ]
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
        f"where the identity is wrong, one of each question: {_percent(rechecks.fixes_lost)}.",
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
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes, analysis)
    for kind in ("svg", "png"):
        sink = io.BytesIO()
        # Without a date and with fixed ids, the same analysis is the same file.
        metadata = {"Date": None} if kind == "svg" else None
        with rc_context({"svg.hashsalt": stem.name}):
            figure.savefig(sink, format=kind, dpi=130, metadata=metadata)
        write_whole(stem.with_suffix(f".{kind}"), sink.getvalue())


def _draw_shares(axes: Axes, analysis: Analysis) -> None:
    names = ["a shorter program\nis right, too", "some program is right\nwhere the identity is wrong"]
    found = {
        "search": (analysis.overall.search, _SEARCH),
        "chance": (analysis.overall.chance, _CHANCE),
        "single edits": (analysis.overall.singles, _GREY),
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
    axes.set_ylim(len(names) - 0.5, -0.5)
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
    axes.legend(frameon=False)
