"""Floating-point operations of programs, as torch's own counter counts them on the model's own layers.

Letters: ``D`` the model's depth, ``T`` new tokens, ``P`` tokens before them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from polar_env.program import Program

if TYPE_CHECKING:
    from polar_env.llm.frozen import FrozenLLM

__all__ = ["FlopCounts", "count_flops"]

_SHORT, _LONG = 4, 8
"""Tokens of the two calls from which a layer's operations for a token and for a pair of tokens are solved."""


class FlopCounts:
    """What each layer costs: ``a T + b T (P + T)`` operations, and the read-out so many for a token.

    Args:
        llm: the frozen LLM.
    """

    def __init__(self, llm: FrozenLLM) -> None:
        short, long = (
            np.array([count_flops(lambda: _layer(llm, layer, tokens)) for layer in range(llm.depth)])  # noqa: B023
            for tokens in (_SHORT, _LONG)
        )
        self.of_pair = (long - short * _LONG / _SHORT) / (_LONG**2 - _SHORT * _LONG)
        """``b`` of each layer, ``[D]``."""
        self.of_token = short / _SHORT - self.of_pair * _SHORT
        """``a`` of each layer, ``[D]``."""
        self.of_read_out = count_flops(lambda: llm.read_out(torch.zeros(1, llm.width, dtype=llm.dtype).to(llm.device)))
        """Of reading out one token."""

    def of_program(self, program: Program, tokens: int, past: int = 0) -> float:
        """Operations of a program's layers on ``T`` tokens behind ``P`` others, without the read-out."""
        layers = list(program.layers)
        return float(tokens * self.of_token[layers].sum() + tokens * (past + tokens) * self.of_pair[layers].sum())


def count_flops(call: Callable[[], Any]) -> float:
    """Floating-point operations of a call, counted by torch; attention by its plain form, which torch can count."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def _layer(llm: FrozenLLM, layer: int, tokens: int) -> None:
    llm.run(torch.zeros(1, tokens, dtype=torch.long), Program((layer,)))
