"""Wall-clock of methods: time to first token, tokens a second, seconds a question, in one run beside the identity.

Each method starts from nothing and answers one question untimed, so that worked examples stand ready, as they do for
whoever answers many questions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from agents.base import Responder
from eval.methods import Method
from eval.table import Table
from polar_env.progress import Progress, no_progress
from polar_env.questions import Ask
from polar_env.runner import Decoding
from polar_env.tables import write_whole
from polar_env.worlds import LiveWorld

__all__ = ["BATCH_SIZES", "Timing", "read_timings", "time_methods", "timing_table"]

BATCH_SIZES = (1, 8, 32)


@dataclass(frozen=True)
class Timing:
    """What a question takes, on average.

    Attributes:
        method: the method's name.
        batch: questions that are answered together.
        questions: how many were timed.
        seconds: in all, deciding included.
        decide_seconds: of these, until the program is chosen; a policy executes its program's layers meanwhile.
        first_token: seconds from the question until the first token of its answer; None where none is written, or by a
            method that answers out of several runs.
        tokens_per_second: tokens that all rows of a batch write in a second after their first; None as above.
        token_layers: tokens through layers of the LLM, really executed; worked examples of its own programs included.
    """

    method: str
    batch: int
    questions: int
    seconds: float
    decide_seconds: float
    first_token: float | None
    tokens_per_second: float | None
    token_layers: float


def time_methods(
    world: LiveWorld,
    methods: Sequence[Method],
    asks: Sequence[Ask],
    path: Path,
    progress: Progress = no_progress,
) -> list[Timing]:
    """Time methods; those that the file has already are left out.

    Args:
        world: executes.
        methods: what to time.
        asks: at least two questions; all but the first are timed, at most four batches of each size.
        path: JSON file that keeps the timings.
        progress: shows how far it is.
    """
    timings = read_timings(path)
    done = {(each.method, each.batch) for each in timings}
    todo = [(m, size) for m in methods for size in BATCH_SIZES if (m.name, size) not in done and m.agent is not None]
    with progress("timing", len(todo), "batch sizes") as advance:
        for method, size in todo:
            timings.append(_time(world, method, asks, size))
            write_whole(path, json.dumps([asdict(each) for each in timings], indent=2).encode())
            advance(1)
    return timings


def read_timings(path: Path) -> list[Timing]:
    """The timings that a file keeps; none where there is no file."""
    return [Timing(**each) for each in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []


def _time(world: LiveWorld, method: Method, asks: Sequence[Ask], size: int) -> Timing:
    first, timed = asks[:1], asks[1:]
    batches = [timed[i : i + size] for i in range(0, len(timed), size)][:4]
    with world.from_nothing():
        _answer(world, method, first)
        before = world.stats.copy()
        measured = [_answer(world, method, batch) for batch in batches]
        token_layers = world.stats.since(before).executed_tokens
    count = sum(map(len, batches))
    seconds, decide, to_first, decoding, tokens = (sum(column) for column in zip(*measured, strict=True))
    return Timing(
        method=method.name,
        batch=size,
        questions=count,
        seconds=seconds / count,
        decide_seconds=decide / count,
        first_token=to_first / len(batches) if to_first else None,
        tokens_per_second=tokens / decoding if decoding else None,
        token_layers=token_layers / count,
    )


def _answer(world: LiveWorld, method: Method, asks: Sequence[Ask]) -> tuple[float, float, float, float, int]:
    """Answer once: seconds in all, deciding, until the first token, decoding after it, and tokens written then."""
    started = time.perf_counter()
    if isinstance(method.agent, Responder):
        method.agent.respond(asks)
        return time.perf_counter() - started, 0.0, 0.0, 0.0, 0
    assert method.agent is not None
    programs = [decision.program for decision in method.agent.decide(asks)]
    decided = time.perf_counter() - started
    open_asks = [(ask, program) for ask, program in zip(asks, programs, strict=True) if not ask.choices]
    choices = [(ask, program) for ask, program in zip(asks, programs, strict=True) if ask.choices]
    world.answers([ask for ask, _ in choices], [program for _, program in choices])
    if not open_asks:
        return time.perf_counter() - started, decided, 0.0, 0.0, 0
    most = max(world.prompts[ask.task].max_new_tokens for ask, _ in open_asks)
    written = world.generate([ask for ask, _ in open_asks], [program for _, program in open_asks], Decoding(most))
    decoding = max(each.decode_seconds for each in written)
    first = decided + written[0].prefill_seconds
    return time.perf_counter() - started, decided, first, decoding, sum(len(each.tokens) - 1 for each in written)


def timing_table(timings: Sequence[Timing]) -> Table:
    """The timings, a row for each method and batch size."""
    return Table(
        ("method", "batch", "ms / question", "of it deciding", "ms to first token", "tokens / s", "token-layers"),
        [
            (
                each.method,
                str(each.batch),
                f"{1000 * each.seconds:.0f}",
                f"{1000 * each.decide_seconds:.0f}",
                "" if each.first_token is None else f"{1000 * each.first_token:.0f}",
                "" if each.tokens_per_second is None else f"{each.tokens_per_second:.0f}",
                f"{each.token_layers:.0f}",
            )
            for each in timings
        ],
    )
