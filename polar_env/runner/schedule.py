"""Executing program prefixes on texts, each (text, prefix) pair once.

Programs share prefixes, so what must be executed is a tree for each text. Rows of whatever text and tree that need the
same layer next run as one batch. A text that stands before others (worked examples before asks, an ask before its
answers) is executed once: the keys and values that it makes at each position of a program serve the rows behind it,
which wait for them.

Axis letters: ``B`` rows, ``C`` rows of one text, ``P`` tokens of a text before it, ``T`` tokens of a row, ``H`` width,
``G`` KV heads, ``E`` head width.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from polar_env.llm.frozen import FrozenLLM
from polar_env.llm.slots import Slot
from polar_env.runner.batches import Target, batches
from polar_env.runner.bounded import BoundedCache
from polar_env.runner.encoding import Text
from polar_env.runner.prefixes import NO_LAYERS, Prefix, beginnings_of, last_layer, parent_of, suffix_of
from polar_env.runner.profile import DeviceProfile
from polar_env.runner.slots import KeysValues, RaggedSlot, slot_of
from polar_env.runner.stats import ExecutionStats
from polar_env.runtime import return_freed_memory

__all__ = ["Execution", "StateCache"]

_TRIM_EVERY = 1 << 28
"""Bytes of new states after which freed memory goes back to the system."""

StateKey = tuple[bytes, Prefix]
"""A text's id and a program prefix."""


class StateCache(BoundedCache[tuple[str, bytes, Prefix], Tensor]):
    """Hidden states, and keys and values of texts that stand before others, by kind, text and program prefix."""

    _since_trim = 0

    def keep(self, kind: str, key: StateKey, tensor: Tensor) -> None:
        """Keep a tensor; from time to time memory that was freed meanwhile goes back to the system."""
        self.put((kind, *key), tensor, tensor.nbytes)
        self._since_trim += tensor.nbytes
        if self._since_trim > _TRIM_EVERY:
            self._since_trim = 0
            return_freed_memory()

    def slot(self, key: StateKey) -> KeysValues | None:
        """Keys and values that a text made at the last position of a prefix."""
        keys, values = self.get(("keys", *key)), self.get(("values", *key))
        return None if keys is None or values is None else (keys, values)


class Execution:
    """One piece of work: what is wanted, what is there, and who waits for what.

    Args:
        llm: executes layers.
        cache: states made before; takes in those made now.
        stats: counts what is executed.
        profile: sizes of batches.
    """

    def __init__(self, llm: FrozenLLM, cache: StateCache, stats: ExecutionStats, profile: DeviceProfile) -> None:
        self.llm, self.cache, self.stats, self.profile = llm, cache, stats, profile
        self.hidden: dict[StateKey, Tensor] = {}
        """Hidden states ``[C, T, H]``: in the end those that were wanted."""
        self.slots: dict[StateKey, KeysValues] = {}
        """Keys and values ``[G, P, E]`` of the last position of a prefix: in the end those that were wanted."""
        self._ends: set[StateKey] = set()
        self._texts: dict[bytes, Text] = {}
        self._next_layers: dict[StateKey, dict[int, None]] = defaultdict(dict)
        self._planned: set[StateKey] = set()
        self._readers: Counter[StateKey] = Counter()  # of keys and values: rows that will still read them
        self._queued: set[StateKey] = set()
        self._waiting: dict[int, list[Target]] = defaultdict(list)  # rows that need this layer next
        self._blocked: dict[StateKey, list[Target]] = defaultdict(list)  # rows that need these keys and values first

    def want(self, text: Text, prefix: Prefix) -> None:
        """Ask for the hidden states of a text after a prefix."""
        self._ends.add((text.id, prefix))
        self._plan(text, prefix)

    def want_slots(self, text: Text, prefix: Prefix) -> None:
        """Ask for the keys and values of a text, and of those before it, at every position of a prefix."""
        for each in (*text.contexts, text):
            for beginning in beginnings_of(prefix):
                self._plan_slot(each, beginning)

    def run(self) -> None:
        """Execute what is wanted; the lowest layer first: rows ahead wait there for the others and join their batch."""
        self._pending = {key: len(layers) for key, layers in self._next_layers.items()}
        for text_id, prefix in list(self.hidden):
            self._queue(self._texts[text_id], prefix)
        while self._waiting:
            layer = min(self._waiting)
            for batch in batches(self._waiting.pop(layer), self.profile):
                self._execute(layer, batch)

    def _plan(self, text: Text, prefix: Prefix) -> None:
        """Plan the way to a state, back to the nearest one that is there."""
        self._texts[text.id] = text
        while (text.id, prefix) not in self._planned:
            self._planned.add((text.id, prefix))
            state = self._state(text, prefix)
            if state is not None:
                self.hidden[text.id, prefix] = state
                return
            self._plan_position(text, prefix)
            prefix = parent_of(prefix)

    def _plan_position(self, text: Text, prefix: Prefix) -> None:
        """Plan the last position of a prefix, with the keys and values that it reads."""
        layers = self._next_layers[text.id, parent_of(prefix)]
        if last_layer(prefix) not in layers:
            layers[last_layer(prefix)] = None
            for context in text.contexts:
                self._plan_slot(context, prefix)

    def _state(self, text: Text, prefix: Prefix) -> Tensor | None:
        state = self.cache.get(("hidden", text.id, prefix))
        if state is None and prefix == NO_LAYERS:
            state = self.llm.embed(text.rows, text.past)
            self.cache.keep("hidden", (text.id, prefix), state)
        return state

    def _plan_slot(self, text: Text, prefix: Prefix) -> None:
        """Plan the way to the keys and values that a text makes at the last position of a prefix."""
        key = (text.id, prefix)
        self._readers[key] += 1
        if self._readers[key] > 1:
            return
        slot = self.cache.slot(key)
        if slot is not None:
            self.slots[key] = slot
            return
        self._plan_position(text, prefix)
        self._plan(text, parent_of(prefix))

    def _queue(self, text: Text, prefix: Prefix) -> None:
        """Let a state wait for the layers that follow it; once, though it may be executed again when only its keys and
        values were forgotten.
        """
        self._queued.add((text.id, prefix))
        for layer in self._next_layers.get((text.id, prefix), ()):
            self._let_wait((text, prefix), layer)

    def _let_wait(self, target: Target, layer: int) -> None:
        """Let a state wait for a layer, or first for keys and values of a text before it."""
        text, prefix = target
        for context in text.contexts:
            if (slot := (context.id, prefix + suffix_of(layer))) not in self.slots:
                self._blocked[slot].append(target)
                return
        self._waiting[layer].append(target)

    def _execute(self, layer: int, batch: list[Target]) -> None:
        """Execute a layer on the states of a batch."""
        states, suffix = [self.hidden[text.id, prefix] for text, prefix in batch], suffix_of(layer)
        slot = self._slot(batch, suffix)
        # Shorter rows are padded on the right, where causal attention never looks.
        hidden = pad_sequence([row for state in states for row in state], batch_first=True)  # [B, T, H]
        pasts = tuple(text.past for text, state in zip([t for t, _ in batch], states, strict=True) for _ in state)
        hidden = self.llm.apply(layer, hidden, self.llm.context_inputs(pasts, hidden.shape[1]), slot, grouped=True)
        self.stats.calls[hidden.shape[0] * hidden.shape[1]] += 1
        row = 0
        for (text, prefix), after in zip(batch, hidden.split([len(state) for state in states]), strict=True):
            if text.reused:
                keys, values = slot.keys[-1][row, :, : text.length], slot.values[-1][row, :, : text.length]
                self._take_in_slot((text.id, prefix + suffix), layer, (keys.clone(), values.clone()))
            # A clone, since a view would keep the whole batch alive in the cache.
            self._take_in(text, prefix, prefix + suffix, after[:, : text.length].clone())
            row += len(after)

    def _slot(self, batch: list[Target], suffix: Prefix) -> Slot | RaggedSlot:
        """The keys and values of all texts before the rows of a batch."""
        rows, layouts = [], []
        for text, prefix in batch:
            contexts = [self.slots[context.id, prefix + suffix] for context in text.contexts]
            rows += [contexts] * len(text.rows)
            layouts += [text.layout] * len(text.rows)
        return slot_of(rows, layouts)

    def _take_in(self, text: Text, before: Prefix, after: Prefix, hidden: Tensor) -> None:
        """Keep a new state, and forget what nothing more will be made of."""
        self._pending[text.id, before] -= 1
        if not self._pending[text.id, before] and (text.id, before) not in self._ends:
            del self.hidden[text.id, before]
        self.cache.keep("hidden", (text.id, after), hidden)
        self.stats.count(text.role)
        for context in text.contexts:
            slot = (context.id, after)
            self._readers[slot] -= 1
            if not self._readers[slot]:
                del self.slots[slot]
        wanted = (text.id, after) in self._ends or (text.id, after) in self._pending
        if wanted and (text.id, after) not in self._queued:
            self.hidden[text.id, after] = hidden
            self._queue(text, after)

    def _take_in_slot(self, key: StateKey, layer: int, slot: KeysValues) -> None:
        """Keep new keys and values ``[G, P, E]``, and let the rows go on that waited for them."""
        for kind, tensor in zip(("keys", "values"), slot, strict=True):
            self.cache.keep(kind, key, tensor)
        if self._readers[key]:
            self.slots[key] = slot
            for target in self._blocked.pop(key, []):
                self._let_wait(target, layer)
