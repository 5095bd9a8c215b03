"""What a person sees while a command works; everything that is not a result goes to standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from polar_env.progress import Advance, Progress
from polar_env.runner.stats import ExecutionStats
from polar_env.tracking import tracker

__all__ = ["bars", "console"]

_SECONDS_BETWEEN_LOGS = 1.0
console = Console(stderr=True, highlight=False, soft_wrap=True)


def bars(stats: ExecutionStats) -> Progress:
    """Progress bars with rates: units a second, layer executions a second, cache hit rate.

    Args:
        stats: statistics that give the rates, and grow.
    """
    return partial(_bar, stats)


@contextmanager
def _bar(stats: ExecutionStats, title: str, total: int | None, unit: str) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(),
        TextColumn("{task.fields[rates]}"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with RichProgress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        bar = _Bar(progress, stats, title, total, unit)
        yield bar.advance
        bar.log()
    console.print(f"{title}: {bar.done} {unit}, {bar.rates()}", markup=False)


class _Bar:
    """One bar."""

    def __init__(self, progress: RichProgress, stats: ExecutionStats, title: str, total: int | None, unit: str) -> None:
        self.progress, self.stats, self.unit = progress, stats, unit
        self.before, self.done, self.logged = stats.copy(), 0, 0.0
        self.task = progress.add_task(title, total=total, rates="")

    def advance(self, count: int) -> None:
        """``count`` more units are done."""
        self.done += count
        self.progress.update(self.task, advance=count, rates=self.rates())
        elapsed = self.progress.tasks[0].elapsed or 0.0
        if elapsed - self.logged >= _SECONDS_BETWEEN_LOGS:
            self.log()
            self.logged = elapsed

    def log(self) -> None:
        """Log how far it is; the step counts what is done."""
        per_second, layers, stats = self._speed()
        part = self.progress.tasks[0].description.replace(" ", "-")
        metrics = {"per_second": per_second, "layers_per_second": layers, "hit_rate": stats.hit_rate}
        tracker().log({f"{part}/{name}": value for name, value in metrics.items()}, self.done)

    def rates(self) -> str:
        """The rates so far, in words."""
        per_second, layers, stats = self._speed()
        return (
            f"{per_second:.1f} {self.unit}/s, {layers:.0f} layer executions/s, "
            f"{stats.hit_rate:.0%} cached, sharing {stats.sharing:.1f}x"
        )

    def _speed(self) -> tuple[float, float, ExecutionStats]:
        """Units a second, layer executions a second, and what was executed since the bar began."""
        stats = self.stats.since(self.before)
        seconds = max(self.progress.tasks[0].elapsed or 0.0, 1e-9)
        return self.done / seconds, stats.executed_layers / max(stats.seconds, 1e-9), stats
