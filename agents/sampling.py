"""Equal compute by the other axis: the identity, sampled several times (Wang et al. 2023, self-consistency)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from agents.base import Response, seeded_rng
from polar_env.errors import ConfigError
from polar_env.questions import Ask
from polar_env.questions.twins import normalise
from polar_env.worlds import AskWorld

if TYPE_CHECKING:
    from polar_env.runner import Answer

__all__ = ["SamplingAgent"]

TEMPERATURE = 0.7
"""Of the samples behind the first answer, which is greedy."""


class SamplingAgent:
    """Runs the identity several times and answers with the most frequent answer, or with the most confident one.

    The first run is greedy, the others are sampled. A majority takes an odd number of runs. A mean cost between two
    numbers of runs gives some asks, drawn by their ids, the larger one: a majority at a cost of 2 is one run for half
    of the asks and three for the others.

    Args:
        world: executes.
        cost: mean runs of the identity for an ask, at least 1.
        choose: by ``majority``, ties by summed confidence, or by ``confidence`` alone.
        seed: with an ask's id it seeds its samples.

    Raises:
        ConfigError: for a cost below 1 or without end.
    """

    def __init__(
        self, world: AskWorld, cost: float = 2.0, choose: Literal["majority", "confidence"] = "majority", seed: int = 0
    ) -> None:
        if not 1 <= cost < math.inf:
            raise ConfigError(f"sampling at a cost of {cost}: the identity itself costs 1; give 1 or more, e.g. 2.")
        self.world, self.cost, self.choose, self.seed = world, cost, choose, seed
        self.name = f"{'majority' if choose == 'majority' else 'best-of'} {cost:g}"

    def respond(self, asks: Sequence[Ask]) -> list[Response]:
        """The answer chosen among the identity's."""
        streams = [seeded_rng(self.seed, ask.id) for ask in asks]
        runs = [1 if ask.choices else self._runs(stream.random()) for ask, stream in zip(asks, streams, strict=True)]
        answers = [[answer] for answer in self.world.answers(asks, self.world.identity)]
        for run in range(1, max(runs, default=0)):
            some = [i for i, count in enumerate(runs) if count > run]
            seeds = [int(streams[i].integers(2**31)) for i in some]
            sampled = self.world.answers([asks[i] for i in some], self.world.identity, TEMPERATURE, seeds)
            for i, answer in zip(some, sampled, strict=True):
                answers[i].append(answer)
        return [Response(self._chosen(each), (self.world.identity,) * len(each)) for each in answers]

    def _runs(self, drawn: float) -> int:
        """How often the identity runs for an ask: of a uniform draw, so that the mean is the cost."""
        step = 2 if self.choose == "majority" else 1
        fewer, share = divmod((self.cost - 1) / step, 1)
        return 1 + step * (int(fewer) + (drawn < share))

    def _chosen(self, answers: Sequence[Answer]) -> Answer:
        if self.choose == "confidence":
            return max(answers, key=lambda answer: answer.confidence)
        alike: dict[str, list[Answer]] = defaultdict(list)
        for answer in answers:
            alike[normalise(answer.text)].append(answer)
        most = max(alike.values(), key=lambda group: (len(group), sum(answer.confidence for answer in group)))
        return most[0]
