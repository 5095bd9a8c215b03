"""Executing programs on asks: observations of partly executed programs, and generation. No answer comes near.

What is executed here depends on asks, prompts and programs alone, and so do its batches. Agents get no more of a runner
than this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from polar_env.llm.frozen import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Ask, Prompt
from polar_env.runner.bounded import BoundedCache
from polar_env.runner.decoding import Decoding, Generation, OnText
from polar_env.runner.encoding import EncodedAsk, Encoder, Text
from polar_env.runner.generation import write
from polar_env.runner.prefixes import Prefix, prefix_of
from polar_env.runner.profile import DeviceProfile, memory_beside
from polar_env.runner.readout import pool
from polar_env.runner.schedule import Execution, StateCache
from polar_env.runner.stats import ExecutionStats
from polar_env.runtime import torch_threads

__all__ = ["IN_FLIGHT", "TOKENS", "VERDICTS", "AskRunner", "cached_and_missing", "encoding_bytes"]

_STATES, _OBSERVATIONS, VERDICTS, TOKENS = 0.75, 0.109375, 0.0625, 0.015625
"""Shares of the memory bound; what is left of it is for the states in flight."""
IN_FLIGHT = 1 - _STATES - _OBSERVATIONS - VERDICTS - TOKENS
_ENCODING_BYTES, _TOKEN_BYTES = 4096, 128
"""An encoded ask or question in memory, and each of its tokens."""
_PROMPTS = 1024
"""Prompts whose encoder is kept."""

AskedState = tuple[Ask, Prompt, tuple[int, ...]]
AskedAnswer = tuple[Ask, Prompt, Program]
Key = TypeVar("Key")
Value = TypeVar("Value")
Item = TypeVar("Item")


class AskRunner:
    """Executes programs on asks, each under its own prompt, and remembers what it has done; see `Runner`.

    Args:
        llm: the frozen LLM.
        memory_bytes: bound of what a runner keeps, without the model's weights; None takes what suits the device.
        threads: torch threads that layers run on; None takes torch's own number.
        profile: sizes of batches; None takes those that suit the device.
    """

    def __init__(
        self,
        llm: FrozenLLM,
        memory_bytes: int | None = None,
        threads: int | None = None,
        profile: DeviceProfile | None = None,
    ) -> None:
        self.llm = llm
        self.profile = profile or DeviceProfile.of(llm.device)
        self.memory_bytes = memory_beside(llm, self.profile) if memory_bytes is None else memory_bytes
        self.threads = threads or torch.get_num_threads()
        self.stats = ExecutionStats()
        self._encoders: BoundedCache[str, Encoder] = BoundedCache(_PROMPTS)
        self._asks: BoundedCache[tuple[str, Ask], EncodedAsk] = BoundedCache(int(self.memory_bytes * TOKENS / 2))
        self.clear()

    def clear(self) -> None:
        """Forget all states and observations; token ids stay."""
        self.states = StateCache(int(self.memory_bytes * _STATES))
        self._observations: BoundedCache[tuple[bytes, Prefix], NDArray[np.float16]] = BoundedCache(
            int(self.memory_bytes * _OBSERVATIONS)
        )

    @property
    def memory_used(self) -> int:
        """Bytes that states, observations and token ids of asks take now."""
        return self.states.used + self._observations.used + self._asks.used

    def encoder(self, prompt: Prompt) -> Encoder:
        """What encodes asks under a prompt."""
        encoder = self._encoders.get(prompt.digest)
        if encoder is None:
            encoder = Encoder(self.llm.tokenizer, prompt, self.llm.context_length)
            self._encoders.put(prompt.digest, encoder, 1)
        return encoder

    def encode_ask(self, ask: Ask, prompt: Prompt) -> EncodedAsk:
        """An ask's token ids.

        Raises:
            QuestionTooLongError: if the prompt exceeds the model's context.
        """
        encoded = self._asks.get((prompt.digest, ask))
        if encoded is None:
            encoded = self.encoder(prompt).ask(ask)
            self._asks.put((prompt.digest, ask), encoded, encoding_bytes(encoded.text))
        return encoded

    def observations(self, asked: Sequence[AskedState]) -> NDArray[np.float32]:
        """What an agent may see of partly executed programs.

        Args:
            asked: asks, their prompts, and the layers executed so far (possibly none).

        Returns:
            ``float32 [N, 2 H]``: hidden state of the last prompt token, then the mean over the ask's tokens, each
            divided by its root mean square.

        Raises:
            QuestionTooLongError: if an ask does not fit the model's context.
        """
        started = time.perf_counter()
        pairs = [(self.encode_ask(ask, prompt).text, prefix_of(layers)) for ask, prompt, layers in asked]
        keys = [(text.id, prefix) for text, prefix in pairs]
        observations, missing = cached_and_missing(keys, pairs, self._observations)
        for chunk in self.chunks(list(missing.values()), lambda pair: ([pair[0]], pair[1])):
            execution = self.execute([(text, prefix) for text, prefix in chunk])
            rows = pool([execution.hidden[text.id, prefix] for text, prefix in chunk])
            for (text, prefix), row in zip(chunk, rows, strict=True):
                observations[text.id, prefix] = row
                self._observations.put((text.id, prefix), row.copy(), row.nbytes)
        self.stats.asked_layers += sum(1 for _, _, layers in asked if layers)  # one position further each
        self.stats.asked_tokens += sum(text.past + text.length for text, prefix in missing.values() if prefix)
        self.stats.seconds += time.perf_counter() - started
        return np.stack([observations[key] for key in keys]).astype(np.float32)

    def generate(
        self, asked: Sequence[AskedAnswer], decoding: Decoding | None = None, on_text: OnText | None = None
    ) -> list[Generation]:
        """Let programs write the answers, from the states of worked examples and asks that are there.

        Args:
            asked: any mix of asks, prompts and programs.
            decoding: how tokens are chosen; None is greedy, at most 32 tokens.
            on_text: called with the number of an ask and each new piece of its answer.

        Returns:
            An answer for each; its text ends before what ends an answer under its prompt.

        Raises:
            ProgramError: if a program does not fit the model.
            QuestionTooLongError: if an ask with its answer does not fit the model's context.
            NonFiniteError: if a layer makes NaN or infinite hidden states.
        """
        started = time.perf_counter()
        encoded = [self.encode_ask(ask, prompt) for ask, prompt, _ in asked]
        with torch_threads(self.threads):
            written = write(
                self.llm,
                [each.text for each in encoded],
                [program for *_, program in asked],
                decoding or Decoding(),
                [[each.end] if each.end else [] for each in encoded],
                execution=self._new_execution,
                profile=self.profile,
                on_text=on_text,
            )
        self.stats.seconds += time.perf_counter() - started
        return written

    def execute(self, targets: Sequence[tuple[Text, Prefix]]) -> Execution:
        """Execute texts under program prefixes, each pair once."""
        execution = self._new_execution()
        with torch_threads(self.threads):
            for text, prefix in targets:
                execution.want(text, prefix)
            execution.run()
        return execution

    def chunks(
        self, items: Sequence[Item], texts_of: Callable[[Item], tuple[list[Text], Prefix]]
    ) -> Iterator[list[Item]]:
        """Items in chunks whose states in flight keep their part of the memory bound.

        Programs go in lexicographic order: so they share the longest prefixes within a chunk.
        """
        most = self.memory_bytes * IN_FLIGHT
        chunk: list[Item] = []
        size, prefixes = 0, set[Prefix]()
        for item in sorted(items, key=lambda each: texts_of(each)[1]):
            texts, prefix = texts_of(item)
            added = self.bytes_in_flight(texts, shared=prefix in prefixes)
            if chunk and size + added > most:
                yield chunk
                chunk, size, prefixes = [], 0, set()
                added = self.bytes_in_flight(texts)
            chunk.append(item)
            prefixes.add(prefix)
            size += added
        if chunk:
            yield chunk

    def bytes_in_flight(self, texts: Sequence[Text], shared: bool = False) -> int:
        """Bytes in flight for one item: hidden states before and after a layer of all its texts, and keys and values of
        those that stand before others; without the prompt's, where another item of the same program has them.
        """
        every = dict.fromkeys(each for text in texts for each in (*text.contexts, text))
        counted = [text for text in every if not (shared and text.role == "prompt")]
        tokens = sum((4 if text.reused else 2) * text.rows.numel() for text in counted)
        return tokens * self.llm.width * self.llm.dtype.itemsize

    def _new_execution(self) -> Execution:
        return Execution(self.llm, self.states, self.stats, self.profile)


def encoding_bytes(text: Text) -> int:
    """Memory of an encoded ask or question."""
    return _ENCODING_BYTES + _TOKEN_BYTES * text.rows.numel()


def cached_and_missing(
    keys: Sequence[Key], items: Sequence[Item], cache: BoundedCache[Key, Value]
) -> tuple[dict[Key, Value], dict[Key, Item]]:
    """The values that a cache has, and the items of which it has none."""
    values: dict[Key, Value] = {}
    missing: dict[Key, Item] = {}
    for key, item in zip(keys, items, strict=True):
        value = cache.get(key)
        if value is None:
            missing[key] = item
        else:
            values[key] = value
    return values, missing
