"""An engine: searches one question at a time in this process, and says so; a cluster's would hand them out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from polar_env.worlds import World
from train.collect import LocalEngine

if TYPE_CHECKING:
    from agents.search.config import MctsConfig
    from polar_env.cli.flags import EngineConfig
    from polar_env.progress import Advance
    from polar_env.questions import Question
    from polar_env.traces.tree import Trace

__all__ = ["OneByOneEngine", "open_engine"]


class OneByOneEngine(LocalEngine):
    """Searches questions one after another."""

    def traces(
        self, questions: Sequence[Question], config: MctsConfig, seed: int, in_flight: int, on_verdicts: Advance
    ) -> Iterator[list[Trace]]:
        """Search; a tree depends on its question and the seed alone, so trees are those of any other engine."""
        for number, question in enumerate(questions, start=1):
            print(f"one-by-one: question {number} of {len(questions)}", file=sys.stderr)
            yield from super().traces([question], config, seed, 1, on_verdicts)


def open_engine(config: EngineConfig, world: World) -> OneByOneEngine:
    """The engine that ``--engine one-by-one`` names."""
    return OneByOneEngine(world)
