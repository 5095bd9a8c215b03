"""``--dry-run``: how long a command would take, and how much memory. Its work is counted, its speed is measured."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from polar_env.cli.flags import QuestionsConfig
from polar_env.cli.opening import open_prompts, open_questions, open_world

if TYPE_CHECKING:
    from polar_env.worlds import LiveWorld

__all__ = ["Work", "estimate"]

_QUESTIONS, _PROGRAMS = 8, 32
"""On so many questions speed is measured, and verdicts under so many programs of each."""
_GIB = 1 << 30


@dataclass(frozen=True)
class Work:
    """What a command does; a verb's module has a function ``work`` that counts it before anything is done.

    Attributes:
        verdicts: programs that are judged on questions; those of a question share what they begin with.
        programs: different ones among them; each executes the worked examples once.
        answers: answers that are written token by token.
        seconds: of what needs no LLM, on two cores.
        gib: memory of what needs no LLM.
    """

    verdicts: float = 0
    programs: float = 0
    answers: float = 0
    seconds: float = 0
    gib: float = 0

    def __add__(self, then: Work) -> Work:
        """One after the other."""
        both = {each.name: getattr(self, each.name) + getattr(then, each.name) for each in fields(self)}
        return Work(**both | {"gib": max(self.gib, then.gib)})


def estimate(config: QuestionsConfig, work: Work) -> str:
    """Time and memory in words.

    Args:
        config: the flags; the LLM that they name runs for some seconds.
        work: what is done.

    Raises:
        PolarError: for flags that the command would refuse, too.
    """
    counts = {"verdicts": round(work.verdicts), "answers": round(work.answers)}
    words = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    if not words:
        return f"about {_duration(work.seconds)} without an LLM, {work.gib:.1f} GiB of memory"
    prompts = open_prompts(config)
    world = open_world(config, prompts)
    program, verdict, answer = _seconds_each(world, config)
    seconds = work.seconds + program * work.programs + verdict * work.verdicts + answer * work.answers
    return f"about {_duration(seconds)} for {words}; memory at most {_bound(world):.1f} GiB (--memory-gib)"


def _seconds_each(world: LiveWorld, config: QuestionsConfig) -> tuple[float, float, float]:
    """Seconds of a new program, of a verdict and of an answer, on this machine as it is now."""
    from polar_env.program import single_edits

    few = open_questions(config.model_copy(update={"limit": _QUESTIONS + 1}), "train", without=world.prompts)
    first, *questions = few if len(few) > 1 else few * 2
    edits = list(single_edits(world.identity))
    programs = edits[:: max(1, len(edits) // _PROGRAMS)]
    began = time.perf_counter()
    world.verdicts([(first, program) for program in programs])  # executes the worked examples, too
    started = time.perf_counter()
    world.verdicts([(question, program) for question in questions for program in programs])
    judged = time.perf_counter()
    world.answers([question.ask for question in questions], world.identity)
    written = time.perf_counter()
    verdict = (judged - started) / (len(questions) * len(programs))
    return (started - began) / len(programs) - verdict, verdict, (written - judged) / len(questions)


def _bound(world: LiveWorld) -> float:
    """GiB that this process takes now, and what the runner may keep."""
    import psutil

    taken: int = psutil.Process().memory_info().rss
    return (taken + world.runner.memory_bytes) / _GIB


def _duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
