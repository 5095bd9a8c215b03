"""Executing program prefixes on texts, each (text, prefix) pair once.

Programs share prefixes, so what must be executed is a tree for each text. Rows of whatever text and tree that need the
same layer next run as one batch. A prompt that stands before many questions is a text of its own: the keys and values
of its steps are made once and serve the rows of all questions behind it, which wait for them. So is a question that
stands before several choices.

Axis letters: ``B`` rows, ``C`` rows of one text, ``P`` tokens of a text before it, ``T`` tokens of a row, ``H`` width,
``G`` KV heads, ``E`` head width.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from polar_env.encoding import Text
from polar_env.executor.memory import ROOT, BoundedCache, Node, last_layer, parent_of, step_of
from polar_env.executor.stats import ExecutionStats
from polar_env.llm.frozen import FrozenLLM
from polar_env.llm.slots import Slot
from polar_env.runtime import grouped_heads, return_freed_memory

__all__ = ["StateCache", "execute"]

BATCH_TOKENS = 1024
"""Most tokens in one batch, unless one text has more: larger ones are slower on CPUs, since activations leave the
cache."""

_PADDING = 0.03
"""Most padding in a batch, as a share of its tokens."""
_SMALL_TOKENS = 128
"""A batch of fewer tokens may have more padding: matrix products of few rows are slow anyway."""

_TRIM_EVERY = 1 << 28
"""Bytes of new states after which freed memory goes back to the system."""

StateKey = tuple[str, Node]
"""A text's id and a program prefix."""
Target = tuple[Text, Node]


class StateCache(BoundedCache[tuple[str, str, Node], Tensor]):
    """Hidden states, and keys and values of prefix texts, by kind, text and program prefix."""

    _since_trim = 0

    def keep(self, kind: str, key: StateKey, tensor: Tensor) -> None:
        """Keep a tensor; from time to time memory that was freed meanwhile goes back to the system."""
        self.put((kind, *key), tensor, tensor.nbytes)
        self._since_trim += tensor.nbytes
        if self._since_trim > _TRIM_EVERY:
            self._since_trim = 0
            return_freed_memory()


def execute(llm: FrozenLLM, targets: Sequence[Target], cache: StateCache, stats: ExecutionStats) -> list[Tensor]:
    """Hidden states ``[C, T, H]`` of texts after program prefixes.

    Args:
        llm: executes layers.
        targets: any mix of texts and program prefixes.
        cache: states made before; takes in those made now.
        stats: counts what is executed.
    """
    run = _Run(llm, cache, stats)
    for text, node in targets:
        run.want(text, node)
        run.ends.add((text.id, node))
    with grouped_heads(llm.device):
        run.go()
    return [run.live[text.id, node] for text, node in targets]


class _Run:
    """One call of `execute`: what is wanted, what is there, and who waits for what."""

    def __init__(self, llm: FrozenLLM, cache: StateCache, stats: ExecutionStats) -> None:
        self.llm, self.cache, self.stats = llm, cache, stats
        self.ends: set[StateKey] = set()
        self.live: dict[StateKey, Tensor] = {}  # hidden states [C, T, H] that something will still be made of
        self.slots: dict[StateKey, tuple[Tensor, Tensor]] = {}  # a step's keys and values [G, P, E]
        self._texts: dict[str, Text] = {}
        self._following: dict[StateKey, dict[int, None]] = defaultdict(dict)  # the layers to be executed next
        self._wanted: set[StateKey] = set()
        self._slot_users: Counter[StateKey] = Counter()
        self._queued: set[StateKey] = set()
        self._waiting: dict[int, list[Target]] = defaultdict(list)  # rows that need this layer next
        self._blocked: dict[StateKey, list[Target]] = defaultdict(list)  # rows that need these keys and values first

    def want(self, text: Text, node: Node) -> None:
        """Plan the way to a state, back to the nearest one that is known."""
        self._texts[text.id] = text
        while (text.id, node) not in self._wanted:
            self._wanted.add((text.id, node))
            known = self._known(text, node)
            if known is not None:
                self.live[text.id, node] = known
                return
            self._plan_step(text, node)
            node = parent_of(node)

    def _plan_step(self, text: Text, node: Node) -> None:
        """Plan the last step before a state, with the keys and values that it reads."""
        layers = self._following[text.id, parent_of(node)]
        if last_layer(node) not in layers:
            layers[last_layer(node)] = None
            for before in text.before:
                self._want_slot(before, node)

    def _known(self, text: Text, node: Node) -> Tensor | None:
        known = self.cache.get(("hidden", text.id, node))
        if known is None and node == ROOT:
            known = self.llm.embed(text.rows, text.past)
            self.cache.keep("hidden", (text.id, node), known)
        return known

    def _want_slot(self, text: Text, node: Node) -> None:
        """Plan the way to the keys and values that a text's last step makes."""
        key = (text.id, node)
        self._slot_users[key] += 1
        if self._slot_users[key] > 1:
            return
        keys, values = (self.cache.get((kind, *key)) for kind in ("keys", "values"))
        if keys is not None and values is not None:
            self.slots[key] = keys, values
            return
        self._plan_step(text, node)
        self.want(text, parent_of(node))

    def go(self) -> None:
        """Execute what is wanted; the lowest layer first: rows ahead wait there for the others and join their batch."""
        self._pending = {key: len(layers) for key, layers in self._following.items()}
        for text_id, node in list(self.live):
            self._queue(self._texts[text_id], node)
        while self._waiting:
            layer = min(self._waiting)
            for batch in _batches(self._waiting.pop(layer)):
                self._step(layer, batch)

    def _queue(self, text: Text, node: Node) -> None:
        """Let a state that is there wait for the layers that follow it; once, though a known one may be made again when
        only its keys and values were forgotten.
        """
        self._queued.add((text.id, node))
        for layer in self._following.get((text.id, node), ()):
            self._let_wait((text, node), layer)

    def _let_wait(self, target: Target, layer: int) -> None:
        """Let a state wait for a layer, or first for keys and values of a text before it."""
        text, node = target
        for before in text.before:
            if (slot := (before.id, node + step_of(layer))) not in self.slots:
                self._blocked[slot].append(target)
                return
        self._waiting[layer].append(target)

    def _step(self, layer: int, batch: list[Target]) -> None:
        """Execute a layer on states of one shape."""
        states = [self.live[text.id, node] for text, node in batch]
        text, step = batch[0][0], step_of(layer)
        rows = [len(state) for state in states]
        slot = self._slot(batch, step, rows)
        # Shorter rows are padded on the right, where causal attention never looks.
        hidden = pad_sequence([row for state in states for row in state], batch_first=True)  # [B, T, H]
        hidden = self.llm.apply(layer, hidden, self.llm.shape_inputs(text.past, hidden.shape[1]), slot)
        self.stats.calls[hidden.shape[0] * hidden.shape[1]] += 1
        row = 0
        for (text, node), made in zip(batch, hidden.split(rows), strict=True):
            length = text.rows.shape[1]
            if text.precedes:
                keys, values = slot.keys[-1][row, :, :length], slot.values[-1][row, :, :length]
                self._take_in_slot((text.id, node + step), layer, keys, values)
            self._take_in(text, node, node + step, made[:, :length])
            row += len(made)

    def _slot(self, batch: list[Target], step: Node, rows: list[int]) -> Slot:
        """The keys and values of all texts before the rows of a batch, in reading order; each ``[B, G, P, E]``."""
        past: tuple[list[Tensor], list[Tensor]] = [], []
        for before in zip(*(text.before for text, _ in batch), strict=True):
            slots = [self.slots[text.id, node + step] for text, (_, node) in zip(before, batch, strict=True)]
            for parts, tensors in zip(past, zip(*slots, strict=True), strict=True):
                parts.append(_by_row(tensors, rows))
        return Slot(*past)

    def _take_in(self, text: Text, before: Node, after: Node, hidden: Tensor) -> None:
        """Keep a new state, and forget what nothing more will be made of."""
        self._pending[text.id, before] -= 1
        if not self._pending[text.id, before] and (text.id, before) not in self.ends:
            del self.live[text.id, before]
        hidden = hidden.clone()  # a view would keep the whole batch alive in the cache
        self.cache.keep("hidden", (text.id, after), hidden)
        self.stats.count(text.role)
        for each in text.before:
            slot = (each.id, after)
            self._slot_users[slot] -= 1
            if not self._slot_users[slot]:
                del self.slots[slot]
        wanted = (text.id, after) in self.ends or (text.id, after) in self._pending
        if wanted and (text.id, after) not in self._queued:
            self.live[text.id, after] = hidden
            self._queue(text, after)

    def _take_in_slot(self, key: StateKey, layer: int, keys: Tensor, values: Tensor) -> None:
        """Keep a step's new keys and values ``[G, P, E]``, and let the rows go on that waited for them."""
        keys, values = keys.clone(), values.clone()
        self.cache.keep("keys", key, keys)
        self.cache.keep("values", key, values)
        if self._slot_users[key]:
            self.slots[key] = keys, values
            for target in self._blocked.pop(key, []):
                self._let_wait(target, layer)


def _batches(rows: list[Target]) -> Iterator[list[Target]]:
    """Rows of like length behind as many tokens, at most `BATCH_TOKENS` tokens together."""
    batch: list[Target] = []
    count = tokens = 0
    for target in sorted(rows, key=lambda row: row[0].shape):
        text = target[0]
        count, tokens = count + len(text.rows), tokens + text.rows.numel()
        padded = count * text.rows.shape[1]  # this one is the longest so far
        wasteful = padded > max(_SMALL_TOKENS, (1 + _PADDING) * tokens)
        if batch and (text.shape[0] != batch[0][0].shape[0] or padded > BATCH_TOKENS or wasteful):
            yield batch
            batch, count, tokens = [], len(text.rows), text.rows.numel()
        batch.append(target)
    if batch:
        yield batch


def _by_row(tensors: Sequence[Tensor], rows: Sequence[int]) -> Tensor:
    """Stack ``[G, P, E]`` tensors, each as often as its text has rows; a view where all rows share one."""
    if all(tensor is tensors[0] for tensor in tensors):
        return tensors[0].expand(sum(rows), -1, -1, -1)
    return torch.stack([tensor for tensor, count in zip(tensors, rows, strict=True) for _ in range(count)])
