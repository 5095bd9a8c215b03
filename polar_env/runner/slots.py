"""Keys and values of the texts before a batch, as attention modules read them.

Axis letters: ``B`` rows, ``G`` KV heads, ``P`` tokens of a text before a row, ``T`` new tokens, ``E`` head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from polar_env.llm.slots import Slot

__all__ = ["KeysValues", "RaggedSlot", "slot_of"]

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of one text at one position of a program, ``[G, P, E]`` each."""


class RaggedSlot:
    """The KV cache slot of rows behind contexts of different length, aligned at their ends.

    Args:
        rows: for each row the keys and values of its contexts, in reading order.
        pasts: tokens before each row.

    Attributes:
        keys: those of the new tokens, as the last piece.
        values: the same.
    """

    def __init__(self, rows: Sequence[Sequence[KeysValues]], pasts: Sequence[int]) -> None:
        self._rows, self._pasts, self._longest = rows, pasts, max(pasts)
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns before the new tokens; some attention modules ask."""
        return self._longest

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> KeysValues:
        """Put the contexts before the new tokens' ``[B, G, T, E]``; padding on the left is zero, and masked."""
        self.keys.append(keys)
        self.values.append(values)
        return self._joined(keys, 0), self._joined(values, 1)

    def _joined(self, new: Tensor, which: int) -> Tensor:
        rows, heads, length, width = new.shape
        whole = new.new_empty(rows, heads, self._longest + length, width)
        whole[:, :, self._longest :] = new
        for row, (contexts, past) in enumerate(zip(self._rows, self._pasts, strict=True)):
            column = self._longest - past
            whole[row, :, :column] = 0
            for text in contexts:
                piece = text[which]
                whole[row, :, column : column + piece.shape[1]] = piece
                column += piece.shape[1]
        return whole


def slot_of(rows: Sequence[Sequence[KeysValues]], layouts: Sequence[tuple[int, ...]]) -> Slot | RaggedSlot:
    """The slot of a batch whose rows stand behind contexts of these lengths.

    Args:
        rows: for each row the keys and values of its contexts, in reading order.
        layouts: for each row the tokens of its contexts.
    """
    if any(layout != layouts[0] for layout in layouts):
        return RaggedSlot(rows, [sum(layout) for layout in layouts])
    by_context = [list(zip(*context, strict=True)) for context in zip(*rows, strict=True)]
    return Slot([_stacked(keys) for keys, _ in by_context], [_stacked(values) for _, values in by_context])


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Rows ``[G, P, E]`` as one tensor ``[B, G, P, E]``; a view where all of them are one."""
    if all(tensor is tensors[0] for tensor in tensors):
        return tensors[0].expand(len(tensors), -1, -1, -1)
    return torch.stack(list(tensors))
