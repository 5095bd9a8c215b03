"""A reward: a right answer earns more, the fewer layers it took."""

from __future__ import annotations

from pydantic import Field

from polar_env.config import Config
from polar_env.envs.rewards import Outcome

__all__ = ["Brevity"]


class Brevity(Config):
    """1 for a right answer, and a bonus for each layer that it did without."""

    bonus: float = Field(default=0.2, ge=0)
    """Reward per layer left out / D, of right answers alone."""

    def __call__(self, outcome: Outcome) -> float:
        """What an outcome earns."""
        left_out = 1.0 - outcome.program.cost(outcome.depth)
        return float(outcome.verdict.right) * (1.0 + self.bonus * max(0.0, left_out))
