"""The KV cache of a batch in which every row runs its own program: one slot for each row and position.

All slots of one layer lie in one pair of tensors, ordered by visit and then by row, so that the rows that run a layer
together are usually neighbours and attention reads them without a copy. Rows are aligned by column: a token stands in
the same column in every slot, and padding is the mask's business.

Axis letters: ``B`` rows, ``N`` slots of a layer, ``G`` KV heads, ``C`` columns, ``T`` new tokens, ``E`` head width,
``D`` layers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polar_env.errors import CacheError
from polar_env.llm.slots import PastLength
from polar_env.program import Program

__all__ = ["ProgramCache", "Visit", "execution_order"]

_ROOM = 64
"""Fewest free columns that a layer's tensors get when they grow."""


@dataclass(frozen=True)
class Visit:
    """Rows that run one layer together, and the position of its program at which each of them stands.

    Attributes:
        layer: the layer.
        rows: the rows, ascending.
        positions: each row's position.
    """

    layer: int
    rows: tuple[int, ...]
    positions: tuple[int, ...]


def execution_order(programs: Sequence[Program]) -> list[Visit]:
    """Which rows run which layer together, in an order that keeps every program's own order.

    The lowest layer goes first: rows ahead wait there for the others and join their batch.
    """
    at = [0] * len(programs)
    order: list[Visit] = []
    while True:
        waiting = [(p.layers[s], r) for r, (p, s) in enumerate(zip(programs, at, strict=True)) if s < len(p)]
        if not waiting:
            return order
        layer = min(waiting)[0]
        rows = tuple(row for wanted, row in waiting if wanted == layer)
        order.append(Visit(layer, rows, tuple(at[row] for row in rows)))
        for row in rows:
            at[row] += 1


class Indices:
    """Index tensors by their numbers, made once: every token needs the same ones, and a device waits for each."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, ...], Tensor] = {}

    def tensor(self, numbers: tuple[int, ...], device: torch.device) -> Tensor:
        """The numbers as ``long`` on the device."""
        if numbers not in self._made:
            self._made[numbers] = torch.tensor(numbers, device=device)
        return self._made[numbers]

    def picks(self, numbers: tuple[int, ...], device: torch.device) -> slice | Tensor:
        """Neighbours as a slice, whose reading is free, others as an index, whose reading is a copy."""
        if numbers == tuple(range(numbers[0], numbers[0] + len(numbers))):
            return slice(numbers[0], numbers[0] + len(numbers))
        return self.tensor(numbers, device)


class _LayerSlots:
    """All slots of one layer: keys and values ``[N, G, C, E]``, of which column 0 is the token ``first``."""

    def __init__(self, count: int, window: int | None, indices: Indices) -> None:
        self.count, self.window, self.first, self.indices = count, window, 0, indices
        self.borrowed = False  # tensors that the model made: never written to, they may be views
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    @property
    def nbytes(self) -> int:
        # By storage: some families' keys and values are views of one tensor.
        storages = [t.untyped_storage() for t in (self.keys, self.values) if t is not None]
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def first_needed(self, past: int) -> int:
        """The first token that new ones after ``past`` others may attend to."""
        return 0 if self.window is None else max(0, past - self.window + 1)

    def append(self, slots: tuple[int, ...], keys: Tensor, values: Tensor, past: int) -> tuple[Tensor, Tensor]:
        """Write ``[B, G, T, E]`` behind column ``past`` of some slots; returns what their new tokens attend to."""
        if self.keys is None and len(slots) == self.count:
            self.keys, self.values, self.borrowed = keys, values, True  # the prompt of all slots: nothing to copy
            return keys, values
        self._make_room(keys, values, past)
        assert self.keys is not None
        assert self.values is not None
        end = past + keys.shape[-2] - self.first
        new, seen = slice(past - self.first, end), slice(self.first_needed(past) - self.first, end)
        picks = self.indices.picks(slots, keys.device)
        self.keys[:, :, new][picks] = keys
        self.values[:, :, new][picks] = values
        if past == 0:
            return keys, values  # nothing came before: no need to read back
        return self.keys[:, :, seen][picks], self.values[:, :, seen][picks]

    def load(self, rows: Sequence[Sequence[tuple[Tensor, Tensor]]], lengths: Sequence[int], longest: int) -> None:
        """Fill empty slots up to column ``longest``, where all rows end; keys and values of padding are zero."""
        made = []
        for which in (0, 1):
            first = rows[0][0][which]
            whole = first.new_empty(len(rows), first.shape[0], longest + _ROOM, first.shape[2])
            for slot, (row, length) in enumerate(zip(rows, lengths, strict=True)):
                column = longest - length
                whole[slot, :, :column] = 0
                for piece in row:
                    whole[slot, :, column : column + piece[which].shape[1]] = piece[which]
                    column += piece[which].shape[1]
            made.append(whole)
        self.keys, self.values, self.borrowed = made[0], made[1], False

    def select(self, slots: Sequence[int]) -> None:
        """Keep some slots, in this order; one may be asked for several times."""
        self.count = len(slots)
        if self.keys is not None and self.values is not None:
            index = torch.tensor(slots, device=self.keys.device)
            self.keys, self.values, self.borrowed = self.keys[index], self.values[index], False

    def _make_room(self, keys: Tensor, values: Tensor, past: int) -> None:
        """Grow by a quarter where columns are short; a window drops the tokens that nobody can attend to any more."""
        first = max(self.first, self.first_needed(past))
        end = past + keys.shape[-2]
        capacity = 0 if self.keys is None or self.borrowed else self.keys.shape[-2]
        room = max(_ROOM, (end - first) // 4)
        too_old = self.window is not None and first - self.first > room
        if end - self.first <= capacity and not too_old:
            return
        old, start = (self.keys, self.values), first - self.first
        self.keys, self.values = (
            _moved(before, start, new.new_empty(self.count, new.shape[1], end - first + room, new.shape[3]))
            for before, new in zip(old, (keys, values), strict=True)
        )
        self.first, self.borrowed = first, False


def _moved(old: Tensor | None, start: int, new: Tensor) -> Tensor:
    """Copy the columns of ``old`` from ``start`` on to the beginning of ``new``, as many as it has room for."""
    if old is not None:
        kept = old[:, :, start : start + new.shape[-2]]
        new[:, :, : kept.shape[-2]] = kept
    return new


class ProgramCache:
    """One KV cache slot for each row and position of a batch of programs.

    Args:
        programs: each row's program.
        windows: for each of the model's ``D`` layers, the tokens that it may attend to, or None for all.
    """

    def __init__(self, programs: Sequence[Program], windows: Sequence[int | None]) -> None:
        self.length = 0
        self._windows = tuple(windows)
        self.indices = Indices()
        self._layers = {
            layer: _LayerSlots(len(visits), windows[layer], self.indices)
            for layer, visits in self._set_programs(programs).items()
        }

    @property
    def past(self) -> PastLength:
        """What a model's forward must know of this cache."""
        return PastLength(self.length, self._windows)

    @property
    def nbytes(self) -> int:
        """Memory that the keys and values take, in bytes."""
        return sum(slots.nbytes for slots in self._layers.values())

    def slot(self, visit: Visit) -> _VisitSlots:
        """What the layer of a visit takes for a cache."""
        slots = self._slots_of.get(visit)
        if slots is None:
            slots = tuple(
                self._slot_of[row][position] for row, position in zip(visit.rows, visit.positions, strict=True)
            )
            self._slots_of[visit] = slots
        return _VisitSlots(self._layers[visit.layer], slots, self.length)

    def load(self, lengths: Sequence[int], pieces: Callable[[int, int], Sequence[tuple[Tensor, Tensor]]]) -> None:
        """Take in tokens whose keys and values were made elsewhere; the cache must be empty.

        Rows are aligned at their last token, with padding on the left, so that every row's next token stands in the
        same column.

        Args:
            lengths: tokens of each row.
            pieces: for a row and a position of its program, keys and values ``[G, P, E]`` that follow one another.

        Raises:
            CacheError: if the cache holds tokens already.
        """
        if self.length:
            raise CacheError(f"the cache holds {self.length} tokens already; load into a new one.")
        self.length = max(lengths)
        for layer, slots in self._layers.items():
            rows = self._rows_of[layer]
            slots.load(
                [pieces(row, position) for row, position in rows], [lengths[row] for row, _ in rows], self.length
            )

    def crop(self, length: int) -> None:
        """Forget all tokens after the first ``length``.

        Raises:
            CacheError: if the cache holds fewer, or a sliding window has dropped tokens that would be needed again.
        """
        if not 0 <= length <= self.length:
            raise CacheError(f"cannot crop to {length} tokens: the cache holds {self.length}.")
        shortest = max((s.first + s.window - 1 for s in self._layers.values() if s.window and s.first), default=0)
        if length < shortest:
            raise CacheError(
                f"cannot crop to {length} tokens: sliding windows keep what {shortest} or more need; crop less, or "
                "run the prompt again."
            )
        self.length = length

    def select(self, rows: Sequence[int]) -> None:
        """Keep some rows, in this order; a row may be asked for several times."""
        before = self._slot_of
        kept = self._set_programs([self.programs[row] for row in rows])
        self._layers = {layer: self._layers[layer] for layer in kept}
        for layer, visits in kept.items():
            self._layers[layer].select([before[rows[row]][position] for row, position in visits])

    def _set_programs(self, programs: Sequence[Program]) -> dict[int, list[tuple[int, int]]]:
        """Number the slots: in each layer all rows' first visits, then the second ones, and so on.

        Returns:
            For each layer that is used, the (row, position) of its slots.
        """
        self.programs = tuple(programs)
        self.order = execution_order(self.programs)
        visits: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for row, program in enumerate(programs):
            times: dict[int, int] = defaultdict(int)
            for position, layer in enumerate(program.layers):
                visits[layer].append((times[layer], row, position))
                times[layer] += 1
        self._rows_of = {layer: [(row, position) for _, row, position in sorted(v)] for layer, v in visits.items()}
        self._slot_of: list[dict[int, int]] = [{} for _ in programs]
        for rows in self._rows_of.values():
            for slot, (row, position) in enumerate(rows):
                self._slot_of[row][position] = slot
        self._slots_of: dict[Visit, tuple[int, ...]] = {}
        return self._rows_of


class _VisitSlots:
    """Some slots of one layer, as an attention module sees a cache."""

    def __init__(self, layer: _LayerSlots, slots: tuple[int, ...], past: int) -> None:
        self._layer, self._slots, self._past = layer, slots, past

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many tokens came before; some attention modules ask."""
        return self._past

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Keep the new tokens' keys and values ``[B, G, T, E]``; returns those that they attend to."""
        return self._layer.append(self._slots, keys, values, self._past)
