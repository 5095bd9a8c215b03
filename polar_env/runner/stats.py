"""What was asked of a runner and what it really executed."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Literal

__all__ = ["ExecutionStats", "Role"]

Role = Literal["prompt", "ask", "answer", "whole"]
"""What a text is: worked examples before many asks, an ask, an answer behind it, or ask and answer in one row."""


@dataclass
class ExecutionStats:
    """What was asked for and what was really executed.

    Attributes:
        verdicts: verdicts given.
        cached_verdicts: of these, how many were remembered, in memory or on disk.
        stored_verdicts: of these, how many came from the verdict store on disk.
        asked_layers: layer executions that the programs asked for spell out, one by one.
        asked_tokens: tokens that would go through layers if all that verdicts and observations asked for, and nobody
            remembered, were executed one by one.
        executed_layers: layer executions on asks (with the answer in one row, unless the ask was observed before).
        prompt_layers: layer executions on the worked examples before many asks.
        answer_layers: layer executions on answers behind an ask.
        non_finite: verdicts on programs that made NaN.
        seconds: time spent on verdicts, observations and generation.
        calls: how often a layer was called with how many tokens.
    """

    verdicts: int = 0
    cached_verdicts: int = 0
    stored_verdicts: int = 0
    asked_layers: int = 0
    asked_tokens: int = 0
    executed_layers: int = 0
    prompt_layers: int = 0
    answer_layers: int = 0
    non_finite: int = 0
    seconds: float = 0.0
    calls: Counter[int] = field(default_factory=Counter)

    @property
    def hit_rate(self) -> float:
        """Share of verdicts that were remembered."""
        return self.cached_verdicts / max(1, self.verdicts)

    @property
    def executed_tokens(self) -> int:
        """Tokens that went through layers, with padding."""
        return sum(tokens * count for tokens, count in self.calls.items())

    @property
    def sharing(self) -> float:
        """Work asked for over work done, in tokens through layers: what sharing the few-shot prompt, programs' common
        beginnings and a question's choices has saved.
        """
        return self.asked_tokens / max(1, self.executed_tokens)

    def count(self, role: Role) -> None:
        """Count one layer execution on a text."""
        self.prompt_layers += role == "prompt"
        self.executed_layers += role in ("ask", "whole")
        self.answer_layers += role == "answer"

    def add(self, other: ExecutionStats) -> None:
        """Count what another runner did, too."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def copy(self) -> ExecutionStats:
        """The figures of now, which later work does not change."""
        return copy.deepcopy(self)

    def since(self, earlier: ExecutionStats) -> ExecutionStats:
        """The difference to an earlier copy."""
        names = [each.name for each in fields(self)]
        return ExecutionStats(**{n: getattr(self, n) - getattr(earlier, n) for n in names})
