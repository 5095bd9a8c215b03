"""The roofline: how long the matrix products of a model's layers alone would take on this machine."""

from __future__ import annotations

import time
from collections import Counter

import torch
from torch import Tensor
from torch.nn.functional import linear

from polar_env.llm import FrozenLLM

__all__ = ["Roofline"]


class Roofline:
    """Measures the rate of matrix products for the shapes that an world really ran.

    A layer is taken as its two-dimensional weights, each multiplied once for every token; norms, attention and the head
    are not counted, so that whatever they cost is overhead.

    Args:
        llm: gives the weights; products go through all layers in turn, so that weights come from memory as they do
            in a program.
    """

    def __init__(self, llm: FrozenLLM) -> None:
        self.llm = llm
        self._weights = [[p for p in layer.parameters() if p.ndim == 2] for layer in llm.layers]
        self._flops = self._seconds = 0.0

    def flops(self, calls: Counter[int]) -> float:
        """Floating-point operations of layer calls, given as how often with how many tokens."""
        per_token = 2 * sum(weight.numel() for layer in self._weights for weight in layer) / len(self._weights)
        return per_token * sum(tokens * count for tokens, count in calls.items())

    @property
    def rate(self) -> float:
        """Floating-point operations per second, over all that was measured."""
        return self._flops / self._seconds

    def share(self, calls: Counter[int], seconds: float) -> float:
        """Time that the products of some calls alone would take, over the seconds that were taken."""
        return self.flops(calls) / self.rate / seconds

    @torch.inference_mode()
    def measure(self, calls: Counter[int], samples: int = 3) -> None:
        """Time the products of some sizes, spread over the tokens of ``calls``; what was measured before counts on."""
        for tokens in _spread(calls, samples):
            inputs = {w.shape[1]: self._random(tokens, w.shape[1]) for layer in self._weights for w in layer}
            for timed in (False, True):
                started = time.perf_counter()
                for layer in self._weights:
                    for weight in layer:
                        output = linear(inputs[weight.shape[1]], weight)
                float(output[0, 0])  # waits for the device
                if timed:
                    self._seconds += time.perf_counter() - started
                    self._flops += self.flops(Counter({tokens: len(self._weights)}))

    def _random(self, tokens: int, width: int) -> Tensor:
        return torch.randn(tokens, width, device=self.llm.device).to(self.llm.dtype)


def _spread(calls: Counter[int], samples: int) -> list[int]:
    """Sizes of the calls at evenly spaced tokens of the whole work, small to large."""
    total, done = sum(size * count for size, count in calls.items()), 0
    chosen: list[int] = []
    for size, count in sorted(calls.items()):
        done += size * count
        while len(chosen) < samples and done > total * (len(chosen) + 0.5) / samples:
            chosen.append(size)
    return chosen
