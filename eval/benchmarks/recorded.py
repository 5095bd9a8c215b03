"""``polar bench recorded``: how fast a recorded world opens, plays and teaches; each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eval.benchmarks.figures import Figures

__all__ = ["RecordedBenchmark", "measure_recorded"]

_PLAY = """
import json, sys, time
import numpy as np
from polar_env.envs.world_env import WorldVectorEnv
from polar_env.worlds import open_world
started = time.perf_counter()
world = open_world({world!r})
opened = time.perf_counter() - started
env = WorldVectorEnv(64, world)
_, infos = env.reset(seed=0)
rng, steps, started = np.random.default_rng(0), 0, time.perf_counter()
while time.perf_counter() - started < {seconds}:
    mask = infos["action_mask"]
    *_, infos = env.step((rng.random(mask.shape, np.float32) * mask).argmax(1))
    steps += 64
rate = steps / (time.perf_counter() - started)
heavy = sorted({{"torch", "transformers"}} & set(sys.modules))
import psutil
print(json.dumps([opened, rate, heavy, psutil.Process().memory_info().rss / 2**20]))
"""
_LEARN = """
import json, time
from sb3_contrib import MaskablePPO
from polar_env.envs.sb3 import ProgramVecEnv
from polar_env.envs.world_env import WorldVectorEnv
model = MaskablePPO("MultiInputPolicy", ProgramVecEnv(WorldVectorEnv(64, {world!r})), n_steps=64, batch_size=1024,
                    n_epochs=4, seed=0, device="cpu")
started = time.perf_counter()
model.learn({steps})
print(json.dumps(time.perf_counter() - started))
"""


@dataclass(frozen=True)
class RecordedBenchmark(Figures):
    """What a recorded world costs.

    Attributes:
        open_seconds: to open it, every byte checked, imports left out.
        steps_per_second_64: environment steps of 64 lanes in the menu's form, with drawing allowed actions.
        imports_torch: whether playing imported torch or transformers.
        resident_mib: resident memory of the process that played, at its end (its own peak would hold its parent's).
        ppo_200k_seconds: 200,000 steps of MaskablePPO, learning included; scaled up where fewer were run.
    """

    open_seconds: float
    steps_per_second_64: float
    imports_torch: bool
    resident_mib: float
    ppo_200k_seconds: float


def measure_recorded(
    world: str, seconds: float, ppo_steps: int = 200_000, note: Callable[[str], None] = lambda _: None
) -> RecordedBenchmark:
    """Measure a world.

    Args:
        world: its name or folder.
        seconds: how long to play.
        ppo_steps: steps of MaskablePPO.
        note: told of each figure.
    """
    opened, rate, heavy, resident = _run(_PLAY.format(world=world, seconds=seconds))
    note(f"opened in {opened:.2f} s; {rate:,.0f} steps a second; {resident:.0f} MiB")
    taken = _run(_LEARN.format(world=world, steps=ppo_steps)) * 200_000 / ppo_steps
    note(f"200,000 steps of MaskablePPO in {taken:.0f} s")
    return RecordedBenchmark(opened, rate, bool(heavy), resident, taken)


def _run(code: str) -> Any:
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return json.loads(printed.splitlines()[-1])
