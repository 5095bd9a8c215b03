"""Which floating-point type and how many threads run a model's layers fastest: measured, here and now."""

from __future__ import annotations

import copy
import time

import torch

from polar_env.llm.export import as_model
from polar_env.llm.frozen import FrozenLLM
from polar_env.llm.slots import Slot
from polar_env.machine import cores
from polar_env.program import Program
from polar_env.runtime import torch_threads

__all__ = ["CANDIDATES", "fastest_dtype", "fastest_threads", "seconds_per_layer"]

CANDIDATES = (torch.float32, torch.bfloat16)
"""Types to choose from; the first is kept unless another is clearly faster, since its verdicts depend least on what
else is in the batch."""
_CLEARLY = 1.2
"""A rounder type must be at least this much faster."""
_ROWS, _TOKENS, _ROUNDS = 16, 32, 5


@torch.inference_mode()
def seconds_per_layer(llm: FrozenLLM, rows: int = _ROWS, tokens: int = _TOKENS, rounds: int = _ROUNDS) -> float:
    """Seconds that the first layer takes for ``rows`` x ``tokens`` tokens: the best of several rounds."""
    inputs = llm.shape_inputs(0, tokens)
    hidden = inputs.hidden.expand(rows, -1, -1).contiguous()  # [B, T, H]
    seconds = []
    for _ in range(rounds + 1):  # the first warms up
        started = time.perf_counter()
        float(llm.apply(0, hidden, inputs, Slot())[0, 0, 0])  # reading a number waits for the device
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def fastest_dtype(llm: FrozenLLM) -> torch.dtype:
    """The fastest of the `CANDIDATES` for this model on its device, measured on a copy of its first layer."""
    one_layer = as_model(llm, Program((0,)))
    seconds = {
        dtype: seconds_per_layer(FrozenLLM(copy.deepcopy(one_layer).to(dtype), llm.tokenizer))  # type: ignore[arg-type]
        for dtype in CANDIDATES
    }
    best = min(seconds, key=lambda dtype: seconds[dtype])
    return best if seconds[CANDIDATES[0]] > _CLEARLY * seconds[best] else CANDIDATES[0]


def fastest_threads(llm: FrozenLLM) -> int:
    """The number of torch threads that runs the model's layers fastest: all cores, half of them, and so on down to 1.

    On another device than the CPU torch's own number stays.
    """
    if llm.device.type != "cpu":
        return torch.get_num_threads()
    seconds: dict[int, float] = {}
    count = cores()
    while count:
        with torch_threads(count):
            seconds[count] = seconds_per_layer(llm)
        count //= 2
    return min(seconds, key=lambda n: seconds[n])
