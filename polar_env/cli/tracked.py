"""What the commands log: metrics while they work, then tables, images and artifacts of what they made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polar_env.cli.bars import console
from polar_env.cli.flags import TrackingConfig
from polar_env.tracking import tracker, tracking

if TYPE_CHECKING:
    from polar_env.worlds import RecordedWorld

__all__ = ["log_agents", "log_evaluation", "log_traces", "log_world", "tracked"]

_MOST_ROWS = 10_000
"""Of a table; wandb shows no more."""


@contextmanager
def tracked(config: TrackingConfig, job: str) -> Iterator[None]:
    """Track a job of the experiment in ``config.out``, and say in the end where it lies."""
    with tracking(config.track, config.out, job, config.model_dump(mode="json")) as opened:
        yield
    if opened.place:
        console.print(opened.place, markup=False)


def log_traces(folder: Path, outcome: Mapping[str, Any]) -> None:
    """What a search made: its counts, its verdicts question by question, the trace set."""
    from polar_env.traces import TraceSet

    numbers = {f"search/{name}": float(value) for name, value in outcome.items() if isinstance(value, (int, float))}
    tracker().summary(numbers)
    tracker().table("search/verdicts", TraceSet.open(folder).table().head(_MOST_ROWS))
    tracker().output("traces", folder)


def log_agents(folder: Path, results: Mapping[str, float]) -> None:
    """What a training made: what its agent is worth on questions that it did not learn from, and all agents."""
    tracker().summary({f"validation/{name}": value for name, value in results.items()})
    for each in sorted(path for path in folder.iterdir() if path.is_dir()):
        tracker().output("agent", each)


def log_evaluation(folder: Path, summary: Mapping[str, Any]) -> None:
    """An evaluation: each method's numbers, all answers, the figures with drawings of programs, the report."""
    import pandas as pd

    from eval.results import Results

    methods = {name: entry for name, entry in summary.items() if isinstance(entry, dict) and "pass_at_1" in entry}
    numbers = pd.DataFrame(
        [
            {"method": name} | {key: value for key, value in entry.items() if isinstance(value, (int, float))}
            for name, entry in methods.items()
        ]
    )
    for name, entry in methods.items():
        tracker().summary({f"eval/{name}/pass_at_1": entry["pass_at_1"], f"eval/{name}/mean_cost": entry["mean_cost"]})
    tracker().table("eval/methods", numbers)
    answers = ["method", "question_id", "task", "text", "gold", "answer", "right", "program", "layers", "confidence"]
    tracker().table("eval/answers", Results.open(folder).rows()[answers].head(_MOST_ROWS))
    for figure in sorted((folder / "figures").glob("*.png")):
        tracker().image(f"eval/{figure.stem}", figure)
    tracker().output("report", folder)


def log_world(folder: Path, world: RecordedWorld) -> None:
    """A recorded world: programs by how often they are right, and its files."""
    import pandas as pd

    rows = {
        "program": [str(program) for program in world.programs],
        "right": world.arrays["right"].mean(axis=0).tolist(),
    }
    tracker().table("record/programs", pd.DataFrame(rows))
    tracker().output("recorded-world", folder)
