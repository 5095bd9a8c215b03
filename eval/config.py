"""The settings of an evaluation."""

from __future__ import annotations

from pydantic import Field

from agents.search.config import MctsConfig
from polar_env.config import Config

__all__ = ["EvaluationConfig"]


class EvaluationConfig(Config):
    """What an evaluation does beside measuring the agents."""

    baseline_questions: int = Field(default=256, ge=1)
    """On how many questions the baselines are measured beside the identity and the best static programs: random
    programs, the identity sampled, pruning, early exit, ensemble."""
    oracle_questions: int = Field(default=128, ge=0)
    """On how many questions the search oracle (an upper bound) runs; 0 leaves it out."""
    oracle: MctsConfig = MctsConfig()
    """The oracle's search."""
    agreement_questions: int = Field(default=500, ge=0)
    """On how many open questions, tasks taking turns, the teacher-forced verdict is asked for, too, to compare it with
    the verifier's on what was written; 0 leaves it out."""
    timing_questions: int = Field(default=64, ge=0)
    """On how many questions the identity, the best static program and the learned agents are timed; 0 leaves it out."""
    seed: int = 0
    """Seed of random agents, of the oracle and of samples."""
