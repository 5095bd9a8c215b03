"""Stable-Baselines3's logger, writing to the tracker of the running command."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger

from polar_env.tracking import tracker

__all__ = ["sb3_logger"]


def sb3_logger(first_step: int = 0) -> Logger:
    """A logger for an SB3 algorithm.

    Args:
        first_step: ``global_step`` of the algorithm's step 0.
    """
    return Logger(folder=None, output_formats=[_ToTracker(first_step)])


class _ToTracker(KVWriter):
    def __init__(self, first_step: int) -> None:
        self._first_step = first_step

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Log what is a number."""
        numbers = {k: float(v) for k, v in key_values.items() if isinstance(v, (int, float)) or hasattr(v, "item")}
        tracker().log(numbers, self._first_step + step)

    def close(self) -> None:
        """Nothing: the command closes its tracker."""
