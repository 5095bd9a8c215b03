"""The one place where programs meet questions: (question, program) pairs in, verdicts and observations out."""

from polar_env.executor.executor import Executor
from polar_env.executor.stats import ExecutionStats
from polar_env.executor.verdict import NO_CHANCE, Verdict

__all__ = ["NO_CHANCE", "ExecutionStats", "Executor", "Verdict"]
