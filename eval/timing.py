"""Wall-clock of methods: time to first token, tokens a second, seconds a question, in one run beside the identity.

Each method starts from nothing. First one question of each prompt is answered under every program that the method will
choose, so that worked examples stand ready, as they do for whoever answers many questions; what that takes is measured
by itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from agents.base import Responder
from eval.methods import Method
from eval.table import Table
from polar_env.program import Program
from polar_env.progress import Progress, no_progress
from polar_env.questions import Ask
from polar_env.runner import Decoding
from polar_env.tables import write_whole
from polar_env.worlds import LiveWorld

__all__ = ["BATCH_SIZES", "Timing", "read_timings", "time_methods", "timing_table"]

BATCH_SIZES = (1, 8, 32)
_FILE = "timing.json"


@dataclass(frozen=True)
class Timing:
    """What a question takes, on average.

    Attributes:
        method: the method's name.
        batch: questions that are answered together.
        questions: how many were timed.
        seconds: in all, deciding included.
        decide_seconds: of these, until the program is chosen; a policy executes its program's layers meanwhile.
        first_token: seconds from a batch's questions until the first token of an answer; None where none is written, or
            by a method that answers out of several runs.
        tokens_per_second: tokens that all rows of a batch write in a second after their first; None as above.
        token_layers: tokens through layers of the LLM, really executed.
        start_seconds: once, before the first question: worked examples under each of its programs, and an answer.
    """

    method: str
    batch: int
    questions: int
    seconds: float
    decide_seconds: float
    first_token: float | None
    tokens_per_second: float | None
    token_layers: float
    start_seconds: float


def time_methods(
    world: LiveWorld,
    methods: Sequence[Method],
    asks: Sequence[Ask],
    folder: Path,
    progress: Progress = no_progress,
) -> list[Timing]:
    """Time methods; those that the folder has already are left out.

    Args:
        world: executes.
        methods: what to time.
        asks: at least two questions; all but the first of each prompt are timed, half of them at least, at most four
            batches of each size.
        folder: that of the methods' results; a JSON file there keeps the timings.
        progress: shows how far it is.
    """
    timings = read_timings(folder)
    done = {(each.method, each.batch) for each in timings}
    todo = [(m, size) for m in methods for size in BATCH_SIZES if (m.name, size) not in done and m.agent is not None]
    with progress("timing", len(todo), "batch sizes") as advance:
        for method, size in todo:
            timings.append(_time(world, method, asks, size))
            write_whole(folder / _FILE, json.dumps([asdict(each) for each in timings], indent=2).encode())
            advance(1)
    return timings


def read_timings(folder: Path) -> list[Timing]:
    """The timings beside some results; none where nothing was timed."""
    path = folder / _FILE
    return [Timing(**each) for each in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []


def _time(world: LiveWorld, method: Method, asks: Sequence[Ask], size: int) -> Timing:
    prompts = {world.prompts[ask.task].digest: ask for ask in reversed(asks)}
    first = list(prompts.values())[: len(asks) // 2]  # the others are timed
    timed = [ask for ask in asks if ask not in first][: 4 * size]
    batches = [timed[i : i + size] for i in range(0, len(timed), size)]
    with world.from_nothing():
        programs = _programs(method, timed)
    with world.from_nothing():
        started = time.perf_counter()
        pairs = [(ask, program) for ask in first for program in programs]
        world.answers([ask for ask, _ in pairs], [program for _, program in pairs])
        start_seconds = time.perf_counter() - started
        before = world.stats.copy()
        measured = [_answer(world, method, batch) for batch in batches]
        token_layers = world.stats.since(before).executed_tokens
    count = sum(map(len, batches))
    first_tokens = [each.first_token for each in measured if each.first_token is not None]
    decoding = sum(each.decoding for each in measured)
    return Timing(
        method=method.name,
        batch=size,
        questions=count,
        seconds=sum(each.seconds for each in measured) / count,
        decide_seconds=sum(each.decide for each in measured) / count,
        first_token=fmean(first_tokens) if first_tokens else None,
        tokens_per_second=sum(each.tokens for each in measured) / decoding if decoding else None,
        token_layers=token_layers / count,
        start_seconds=start_seconds,
    )


def _programs(method: Method, asks: Sequence[Ask]) -> list[Program]:
    """All programs that a method executes on some questions."""
    assert method.agent is not None
    if isinstance(method.agent, Responder):
        return list(dict.fromkeys(program for each in method.agent.respond(asks) for program in each.programs))
    return list(dict.fromkeys(decision.program for decision in method.agent.decide(asks)))


@dataclass(frozen=True)
class _Batch:
    """Seconds of one batch: in all, until the programs are chosen, until the first token of an answer, and decoding
    after it; and the tokens that were written then.
    """

    seconds: float
    decide: float = 0.0
    first_token: float | None = None
    decoding: float = 0.0
    tokens: int = 0


def _answer(world: LiveWorld, method: Method, asks: Sequence[Ask]) -> _Batch:
    """Answer one batch: choices are chosen among, the others written, those of one answer length together."""
    started = time.perf_counter()
    if isinstance(method.agent, Responder):
        method.agent.respond(asks)
        return _Batch(time.perf_counter() - started)
    assert method.agent is not None
    programs = [decision.program for decision in method.agent.decide(asks)]
    decided = time.perf_counter() - started
    groups: dict[int, list[tuple[Ask, Program]]] = {}  # by most tokens; 0 for choices
    for ask, program in zip(asks, programs, strict=True):
        groups.setdefault(0 if ask.choices else world.prompts[ask.task].max_new_tokens, []).append((ask, program))
    choices = groups.pop(0, [])
    first_token, decoding, tokens = None, 0.0, 0
    for most, group in groups.items():
        until_group = time.perf_counter() - started
        written = world.generate([ask for ask, _ in group], [program for _, program in group], Decoding(most))
        if first_token is None:
            first_token = until_group + written[0].prefill_seconds
        decoding += max(each.decode_seconds for each in written)
        tokens += sum(len(each.tokens) - 1 for each in written)
    world.answers([ask for ask, _ in choices], [program for _, program in choices])
    return _Batch(time.perf_counter() - started, decided, first_token, decoding, tokens)


def timing_table(timings: Sequence[Timing]) -> Table:
    """The timings, a row for each method and batch size."""
    return Table(
        ("method", "batch", "questions", "ms / question", "of it deciding", "ms to first token", "tokens / s",
         "token-layers", "s once at the start"),
        [
            (
                each.method,
                str(each.batch),
                str(each.questions),
                f"{1000 * each.seconds:.0f}",
                f"{1000 * each.decide_seconds:.0f}",
                "" if each.first_token is None else f"{1000 * each.first_token:.0f}",
                "" if each.tokens_per_second is None else f"{each.tokens_per_second:.0f}",
                f"{each.token_layers:.0f}",
                f"{each.start_seconds:.1f}",
            )
            for each in timings
        ],
    )  # fmt: skip
