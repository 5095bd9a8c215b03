"""What the commands log: metrics while they work, then tables, images and artifacts of what they made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from polar_env.cli.bars import console
from polar_env.cli.flags import TrackingConfig
from polar_env.tracking import Kind, tracker, tracking

if TYPE_CHECKING:
    from polar_env.worlds import RecordedWorld

__all__ = ["log_agents", "log_evaluation", "log_inputs", "log_methods", "log_traces", "log_world", "tracked"]

P = ParamSpec("P")
_MOST_ROWS = 10_000
"""Of a table; wandb shows no more."""


@contextmanager
def tracked(config: TrackingConfig, job: str, part: str = "") -> Iterator[None]:
    """Track a job of the experiment in ``config.out``, and say in the end, or when it is stopped, where it lies.

    Args:
        config: the flags.
        job: what the run does.
        part: which of several runs that do so, where one folder takes them.
    """
    with tracking(config.track, config.out, job, config.model_dump(mode="json"), part) as opened:
        try:
            yield
        finally:
            if opened.place:
                console.print(opened.place, markup=False)


def _or_warn(log: Callable[P, None]) -> Callable[P, None]:
    """Log results, or warn: what is measured and written is no failure because it cannot be logged."""

    @wraps(log)
    def logged(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            log(*args, **kwargs)
        except Exception as error:  # whatever the tracker's library raises
            first = str(error).splitlines()[:1] or [type(error).__name__]
            console.print(f"warning: not all is logged: {first[0]}. What lies on disk is not touched.", markup=False)

    return logged


@_or_warn
def log_inputs(kind: Kind, *paths: Path) -> None:
    """What a command reads."""
    for path in paths:
        tracker().input(kind, path)


@_or_warn
def log_traces(folder: Path, outcome: Mapping[str, Any]) -> None:
    """What a search made: its counts, its verdicts question by question, the trace set."""
    from polar_env.traces import TraceSet

    numbers = {f"search/{name}": float(value) for name, value in outcome.items() if isinstance(value, (int, float))}
    tracker().summary(numbers)
    tracker().table("search/verdicts", TraceSet.open(folder).table().head(_MOST_ROWS))
    tracker().output("traces", folder)


@_or_warn
def log_agents(agent: Path, pass_at_1: float, mean_cost: float) -> None:
    """What a training made: its agent's worth on questions that it did not learn from; the agent, and its baselines."""
    from agents.card import CARD, WARM_START, read_card

    tracker().summary({"validation/pass_at_1": pass_at_1, "validation/mean_cost": mean_cost})
    card = read_card(agent)
    for path in sorted(agent.parent.glob(f"*/{CARD}")):
        other = read_card(path.parent)
        of_learner = path.parent == agent or other.name == WARM_START or not other.weights
        if of_learner and (other.train_asks, other.seed) == (card.train_asks, card.seed):
            tracker().output("agent", path.parent)


@_or_warn
def log_methods(summary: Mapping[str, Any]) -> None:
    """Each method's numbers."""
    import pandas as pd

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


@_or_warn
def log_evaluation(folder: Path, summary: Mapping[str, Any]) -> None:
    """An evaluation: each method's numbers, all answers, the figures with drawings of programs, the report."""
    from eval.results import Results

    log_methods(summary)
    answers = ["method", "question_id", "task", "text", "gold", "answer", "right", "program", "layers", "confidence"]
    tracker().table("eval/answers", Results.open(folder).rows()[answers].head(_MOST_ROWS))
    for figure in sorted((folder / "figures").glob("*.png")):
        tracker().image(f"eval/{figure.stem}", figure)
    tracker().output("report", folder)


@_or_warn
def log_world(folder: Path, world: RecordedWorld) -> None:
    """A recorded world: programs by how often they are right, and its files."""
    import pandas as pd

    rows = {
        "program": [str(program) for program in world.programs],
        "right": world.arrays["right"].mean(axis=0).tolist(),
    }
    tracker().table("record/programs", pd.DataFrame(rows))
    tracker().output("recorded-world", folder)
