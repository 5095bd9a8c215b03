"""Metrics to wandb and the console, on one ``global_step``."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger

__all__ = ["Tracker"]


class Tracker(KVWriter):
    """A wandb run that SB3's logger can write to.

    Offline unless the environment says otherwise (``WANDB_MODE=online``, or ``disabled``).

    Args:
        folder: where wandb keeps its files.
        name: name of the run.
        config: the resolved configuration, saved with the run.
    """

    def __init__(self, folder: Path, name: str, config: dict[str, Any]) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        settings = wandb.Settings(mode=mode, silent=True, console="off")
        self.run = wandb.init(project="polar-env", name=name, dir=str(folder), config=config, settings=settings)
        self.run.define_metric("*", step_metric="global_step")

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run.finish(exit_code=0 if kind is None else 1)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Log some metrics at a step."""
        self.run.log({**metrics, "global_step": step})

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """What SB3's logger calls."""
        self.log(
            {k: float(v) for k, v in key_values.items() if isinstance(v, (int, float)) or hasattr(v, "item")}, step
        )

    def close(self) -> None:
        """Nothing: the run is finished by its context."""

    def sb3_logger(self) -> Logger:
        """A logger for an SB3 algorithm that writes here."""
        return Logger(folder=None, output_formats=[self])
