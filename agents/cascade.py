"""Selector and cascade: a few programs for an ask, one after another, and the answer that is most believed.

A cascade stops at the first answer that is sure enough (FrugalGPT, Chen et al. 2023); a selector runs all. An answer is
believed by two numbers: how probably right its program was said to be before it ran, and how probable the LLM finds
what it wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agents.base import Agent, Decision, Response
from polar_env.errors import ConfigError
from polar_env.questions import Ask
from polar_env.worlds import AskWorld

if TYPE_CHECKING:
    from polar_env.runner import Answer

__all__ = ["TRUST", "CascadeAgent"]

TRUST = 1.0
"""Weight of an answer's log-probability beside the probability that its program is right. On the validation questions
of the recorded skills, pass@1 is the same within a point from 0.5 to 2."""


class CascadeAgent:
    """Runs an agent's best programs in turn until an answer is sure enough, and answers with the best one so far.

    Args:
        world: executes.
        agent: ranks programs, best with a probability of being right for each; without, the answers alone are weighed.
        runs: most programs for an ask.
        sure: it stops at an answer whose confidence reaches this; above 1 it never stops early: a selector.
        trust: weight of an answer's log-probability; see `TRUST`.
        name: name of the row in a report.

    Raises:
        ConfigError: for less than one run.
    """

    def __init__(
        self,
        world: AskWorld,
        agent: Agent,
        runs: int = 2,
        sure: float = 2.0,
        trust: float = TRUST,
        name: str = "cascade",
    ) -> None:
        if runs < 1:
            raise ConfigError(f"{name} with {runs} runs: give 1 or more, e.g. 2.")
        self.world, self.agent, self.runs, self.sure, self.trust, self.name = world, agent, runs, sure, trust, name

    def respond(self, asks: Sequence[Ask]) -> list[Response]:
        """The most believed answer to each ask, with all programs that ran for it."""
        decisions = self.agent.decide(asks)
        answers: list[list[Answer]] = [[] for _ in asks]
        for run in range(self.runs):
            open_asks = [i for i, each in enumerate(answers) if self._goes_on(decisions[i], each)]
            programs = [decisions[i].programs[run] for i in open_asks]
            for i, answer in zip(open_asks, self.world.answers([asks[i] for i in open_asks], programs), strict=True):
                answers[i].append(answer)
        return [self._response(*each) for each in zip(decisions, answers, strict=True)]

    def _goes_on(self, decision: Decision, answers: Sequence[Answer]) -> bool:
        """Whether another program runs: none was sure, and there is one more."""
        return len(answers) < len(decision.programs) and not any(each.confidence >= self.sure for each in answers)

    def _response(self, decision: Decision, answers: Sequence[Answer]) -> Response:
        beliefs = [
            (probability or 0.0) + self.trust * answer.log_prob
            for probability, answer in zip(decision.confidences, answers, strict=False)
        ]
        best = max(range(len(answers)), key=beliefs.__getitem__)
        return Response(answers[best], decision.programs[: len(answers)], decision.layers, decision.flops, best)
