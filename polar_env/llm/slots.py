"""KV cache slots, one for each position of a program.

Transformers keeps one slot per layer, which is wrong as soon as a layer runs twice. An attention module only ever calls
``cache.update(key, value, layer_idx, ...)``, so an object whose ``update`` ignores ``layer_idx`` gives each position
its own. `Slot` is that object for one position; `polar_env.llm.cache.ProgramCache` keeps the slots of a whole batch.

Axis letters: ``B`` rows, ``G`` KV heads, ``S`` cached tokens, ``T`` new tokens, ``E`` head width, ``D`` layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

__all__ = ["PastLength", "Slot"]


class Slot:
    """The keys and values of one position.

    Args:
        keys: keys of earlier tokens in pieces ``[B, G, S, E]`` that follow one another; none for an empty slot.
        values: values of earlier tokens, in the same pieces.

    Attributes:
        keys: all keys; the new tokens' are the last piece.
        values: all values.
    """

    def __init__(self, keys: Sequence[Tensor] = (), values: Sequence[Tensor] = ()) -> None:
        self.keys, self.values = list(keys), list(values)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many tokens the slot holds; some attention modules ask."""
        return sum(piece.shape[-2] for piece in self.keys)

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append the new tokens' keys and values ``[B, G, T, E]``; returns all, ``[B, G, S + T, E]``."""
        self.keys.append(keys)
        self.values.append(values)
        if len(self.keys) == 1:
            return keys, values
        return torch.cat(self.keys, dim=-2), torch.cat(self.values, dim=-2)


class _PastLayer(DynamicLayer):
    """A cache layer that holds nothing but says that ``length`` tokens came before."""

    def __init__(self, length: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.length = length

    def get_seq_length(self) -> int:
        """The number of tokens that came before."""
        return self.length


class _PastWindow(DynamicSlidingWindowLayer):
    """The same for a layer that keeps a window only: masks then count the columns that are really kept."""

    def __init__(self, length: int, window: int) -> None:
        super().__init__(window)
        self.cumulative_length = length


class PastLength(Cache):
    """Stands in for a cache while a model computes masks and positions: right about lengths, empty otherwise.

    Args:
        length: how many tokens came before.
        windows: for each of the ``D`` layers, the tokens that it keeps, or None where it keeps all.
    """

    def __init__(self, length: int, windows: Sequence[int | None]) -> None:
        self.length = length
        super().__init__(layers=[_PastLayer(length) if w is None else _PastWindow(length, w) for w in windows])
