"""``--dry-run``: how long a command would take, and how much memory. Its work is counted, its speed is measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polar_env.questions import Question, mixed_order

if TYPE_CHECKING:
    from polar_env.worlds import LiveWorld

__all__ = ["Work", "estimate"]

_QUESTIONS, _PROGRAMS = 8, 32
"""On so many questions speed is measured, and verdicts under so many programs of each."""


@dataclass(frozen=True)
class Work:
    """What a command does; a verb's module has a function ``work`` that counts it before anything is done.

    Attributes:
        verdicts: programs that are judged on questions; those of a question share what they begin with.
        programs: different ones among them; each executes the worked examples once.
        answers: answers that are written token by token.
        seconds: of what needs no LLM, on two cores.
        gib: memory of what needs no LLM.
        world: where it is executed; None where no LLM runs.
        questions: what is asked there, or some of it.
    """

    verdicts: float = 0
    programs: float = 0
    answers: float = 0
    seconds: float = 0
    gib: float = 0
    world: LiveWorld | None = None
    questions: Sequence[Question] = ()

    def __add__(self, then: Work) -> Work:
        """One after the other."""
        first = self if self.world else then
        return Work(
            self.verdicts + then.verdicts, self.programs + then.programs, self.answers + then.answers,
            self.seconds + then.seconds, max(self.gib, then.gib), first.world, first.questions,
        )  # fmt: skip


def estimate(work: Work) -> str:
    """Time and memory in words; where an LLM runs, it runs for some seconds to see how fast it is.

    Args:
        work: what is done.
    """
    if work.world is None or not work.questions:
        return f"about {_duration(work.seconds)} without an LLM, {work.gib:.1f} GiB of memory"
    from polar_env.runner.profile import memory_with

    program, verdict, answer = _seconds_each(work.world, work.questions)
    seconds = work.seconds + program * work.programs + verdict * work.verdicts + answer * work.answers
    counts = {"verdicts": round(work.verdicts), "answers": round(work.answers)}
    words = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "nothing"
    gib = memory_with(work.world.llm, work.world.runner.memory_bytes) / (1 << 30)
    return f"about {_duration(seconds)} for {words}; memory at most {gib:.1f} GiB (--memory-gib)"


def _seconds_each(world: LiveWorld, questions: Sequence[Question]) -> tuple[float, float, float]:
    """Seconds of a new program, of a verdict and of an answer, on this machine as it is now."""
    from polar_env.program import single_edits

    first, *rest = mixed_order(questions, 0)[: _QUESTIONS + 1]
    rest = rest or [first]
    edits = list(single_edits(world.identity))
    programs = edits[:: max(1, len(edits) // _PROGRAMS)]
    began = time.perf_counter()
    world.verdicts([(first, program) for program in programs])  # executes the worked examples, too
    started = time.perf_counter()
    world.verdicts([(question, program) for question in rest for program in programs])
    judged = time.perf_counter()
    world.answers([question.ask for question in rest], world.identity)
    written = time.perf_counter()
    verdict = (judged - started) / (len(rest) * len(programs))
    return max(0.0, (started - began) / len(programs) - verdict), verdict, (written - judged) / len(rest)


def _duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 90:
        return f"{max(2, round(seconds))} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
