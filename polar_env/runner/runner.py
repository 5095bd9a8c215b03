"""The runner: the one place where programs are executed on asks and questions.

Verdicts (teacher-forced), observations (of partly executed programs) and generation are three read-outs of the same
states. What it saves, largest first:

1. A verdict is teacher-forced: one pass over prompt and gold answer; the answer is right where every gold token is the
   most likely one (greedy decoding would then have written it, and stopped).
2. Programs share prefixes: hidden states are kept by (text, program prefix).
3. Whatever question, prompt and program a row belongs to, rows that need the same layer next run as one batch.
4. Worked examples before many asks, and an ask before its answers, are executed once for each program prefix: their
   keys and values serve all rows behind them, and the tokens that are generated.
5. What was judged once is remembered, in memory and, with a `VerdictStore`, on disk.

What is executed for observations and generation never depends on a gold answer: an ask is a text of its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polar_env.errors import MemoryBoundError, NonFiniteError
from polar_env.llm.frozen import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Ask, Prompt, Question
from polar_env.runner.bounded import BoundedCache
from polar_env.runner.decoding import Decoding, Generation, OnText
from polar_env.runner.encoding import EncodedAsk, EncodedQuestion, Encoder, Text
from polar_env.runner.generation import write
from polar_env.runner.prefixes import Prefix, length_of, prefix_of
from polar_env.runner.profile import DeviceProfile, memory_beside
from polar_env.runner.readout import behind_ask, judge, pool, whole_row
from polar_env.runner.schedule import Execution, StateCache
from polar_env.runner.stats import ExecutionStats
from polar_env.runner.store import VerdictStore
from polar_env.runner.verdict import NO_CHANCE, Verdict
from polar_env.runtime import torch_threads

__all__ = ["Runner"]

_STATES, _OBSERVATIONS, _VERDICTS, _TOKENS = 0.75, 0.109375, 0.0625, 0.015625
"""Shares of the memory bound; what is left of it is for the states in flight."""
_IN_FLIGHT = 1 - _STATES - _OBSERVATIONS - _VERDICTS - _TOKENS
_VERDICT_BYTES = 512
"""A verdict in memory, with its key."""
_ENCODING_BYTES, _TOKEN_BYTES = 4096, 128
"""An encoded ask or question in memory, and each of its tokens."""

AskedVerdict = tuple[Question, Prompt, Program]
AskedState = tuple[Ask, Prompt, tuple[int, ...]]
AskedAnswer = tuple[Ask, Prompt, Program]
Key = TypeVar("Key")
Value = TypeVar("Value")
Item = TypeVar("Item")
Encoded = TypeVar("Encoded", EncodedAsk, EncodedQuestion)


class Runner:
    """Executes programs on asks and questions, each under its own prompt, and remembers what it has done.

    What it keeps is bounded: hidden states, keys and values take three quarters of the bound, observations, verdicts
    and token ids most of the rest. In each part what was used least recently goes first. Work is cut so that the states
    in flight take about the last sixteenth; activations and logits of one batch, and what is in use though it was
    forgotten, come on top.

    Args:
        llm: the frozen LLM.
        memory_bytes: bound of what it keeps, without the model's weights; None takes what suits the device.
        store: keeps verdicts on disk, for other processes and later runs; None keeps them in memory alone.
        threads: torch threads that layers run on; None takes torch's own number.
        profile: sizes of batches; None takes those that suit the device.
    """

    def __init__(
        self,
        llm: FrozenLLM,
        memory_bytes: int | None = None,
        store: VerdictStore | None = None,
        threads: int | None = None,
        profile: DeviceProfile | None = None,
    ) -> None:
        self.llm, self.store = llm, store
        self.profile = profile or DeviceProfile.of(llm.device)
        self.memory_bytes = memory_beside(llm, self.profile) if memory_bytes is None else memory_bytes
        self.threads = threads or torch.get_num_threads()
        self.stats = ExecutionStats()
        self._encoders: dict[int, Encoder] = {}
        tokens = int(self.memory_bytes * _TOKENS / 2)
        self._asks: BoundedCache[tuple[int, Ask], EncodedAsk] = BoundedCache(tokens)
        self._questions: BoundedCache[tuple[int, Question], EncodedQuestion] = BoundedCache(tokens)
        self._read_store = True
        self.clear()

    def clear(self) -> None:
        """Forget all verdicts, states and observations in memory; token ids stay."""
        self._states = StateCache(int(self.memory_bytes * _STATES))
        self._observations: BoundedCache[tuple[bytes, Prefix], NDArray[np.float16]] = BoundedCache(
            int(self.memory_bytes * _OBSERVATIONS)
        )
        self._verdicts: BoundedCache[tuple[bytes, Prefix], Verdict] = BoundedCache(int(self.memory_bytes * _VERDICTS))

    @contextmanager
    def from_nothing(self) -> Iterator[None]:
        """Inside, everything is really executed once, so that its time is its own; verdicts still reach the store."""
        self.clear()
        self._read_store, before = False, self._read_store
        try:
            yield
        finally:
            self._read_store = before

    @property
    def depth(self) -> int:
        """The model's depth ``D``."""
        return self.llm.depth

    @property
    def memory_used(self) -> int:
        """Bytes that states, observations, verdicts and token ids take now."""
        caches = (self._states, self._observations, self._verdicts, self._asks, self._questions)
        return sum(cache.used for cache in caches)

    def encoder(self, prompt: Prompt) -> Encoder:
        """What encodes asks under a prompt; made once for each prompt object."""
        encoder = self._encoders.get(id(prompt))
        if encoder is None:  # it holds the prompt, so that the prompt's id stays its own
            encoder = Encoder(self.llm.tokenizer, prompt, self.llm.context_length)
            self._encoders[id(prompt)] = encoder
        return encoder

    def encode_ask(self, ask: Ask, prompt: Prompt) -> EncodedAsk:
        """An ask's token ids.

        Raises:
            QuestionTooLongError: if the prompt exceeds the model's context.
        """
        return self._encoded(self._asks, (id(prompt), ask), lambda: self.encoder(prompt).ask(ask))

    def encode(self, question: Question, prompt: Prompt) -> EncodedQuestion:
        """A question's token ids.

        Raises:
            QuestionTooLongError: if prompt and answer exceed the model's context.
            MemoryBoundError: if the memory bound is too small for it; says how much it needs.
        """

        def make() -> EncodedQuestion:
            encoded = self.encoder(prompt).question(question, self.encode_ask(question.ask, prompt))
            self._require_memory(question.ask, self._bytes([*_road(encoded, observed=True)]))
            return encoded

        return self._encoded(self._questions, (id(prompt), question), make)

    def verdicts(self, asked: Sequence[AskedVerdict]) -> list[Verdict]:
        """Is the program's answer to the question right?

        Args:
            asked: any mix of questions, prompts and programs; what is repeated is executed once.

        Returns:
            One verdict for each.

        Raises:
            ProgramError: if a program does not fit the model.
            QuestionTooLongError: if a question does not fit the model's context.
            MemoryBoundError: if the memory bound is too small for a question.
            NonFiniteError: if the identity makes NaN or infinite hidden states; names the position and the layer. Any
                other program that does is wrong, with log-probability `NO_CHANCE`, so that a search goes on.
        """
        started = time.perf_counter()
        pairs = [(self.encode(q, prompt), prefix_of(program.check(self.depth).layers)) for q, prompt, program in asked]
        keys = [(question.digest, prefix) for question, prefix in pairs]
        verdicts, missing = _divided(keys, pairs, self._verdicts)
        verdicts |= self._stored(list(missing))
        todo = [pair for key, pair in missing.items() if key not in verdicts]
        for chunk in self._chunks(todo, lambda pair: (self._road(*pair), pair[1])):
            verdicts |= self._judge(chunk)
        self.stats.verdicts += len(asked)
        self.stats.cached_verdicts += len(asked) - len(todo)
        self.stats.asked_layers += sum(len(program) for _, _, program in asked)
        self.stats.asked_tokens += sum(question.size * length_of(prefix) for question, prefix in todo)
        self.stats.seconds += time.perf_counter() - started
        return [verdicts[key] for key in keys]

    def remembers(self, question: Question, prompt: Prompt, program: Program) -> bool:
        """Whether a verdict is in memory."""
        return (self.encode(question, prompt).digest, prefix_of(program.layers)) in self._verdicts

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
        observations, missing = _divided(keys, pairs, self._observations)
        for chunk in self._chunks(list(missing.values()), lambda pair: ([pair[0]], pair[1])):
            execution = self._execute([(text, prefix) for text, prefix in chunk])
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
        encoded = [self.encode_ask(ask, prompt) for ask, prompt, _ in asked]
        with torch_threads(self.threads):
            return write(
                self.llm,
                [each.text for each in encoded],
                [program for *_, program in asked],
                decoding or Decoding(),
                [[each.end] if each.end else [] for each in encoded],
                execution=lambda: Execution(self.llm, self._states, self.stats, self.profile),
                profile=self.profile,
                on_text=on_text,
            )

    def _encoded(self, cache: BoundedCache[Key, Encoded], key: Key, make: Callable[[], Encoded]) -> Encoded:
        encoded = cache.get(key)
        if encoded is None:
            encoded = make()
            text = (
                encoded.text
                if isinstance(encoded, EncodedAsk)
                else (encoded.whole or encoded.behind or encoded.ask.text)
            )
            cache.put(key, encoded, _ENCODING_BYTES + _TOKEN_BYTES * text.rows.numel())
        return encoded

    def _stored(self, missing: Sequence[tuple[bytes, Prefix]]) -> dict[tuple[bytes, Prefix], Verdict]:
        """The verdicts among those missing that are on disk."""
        if self.store is None or not self._read_store or not missing:
            return {}
        keys = {VerdictStore.key(digest, prefix): (digest, prefix) for digest, prefix in missing}
        verdicts = {keys[key]: verdict for key, verdict in self.store.get(list(keys)).items()}
        for key, verdict in verdicts.items():
            self._verdicts.put(key, verdict, _VERDICT_BYTES)
        self.stats.stored_verdicts += len(verdicts)
        return verdicts

    def _road(self, question: EncodedQuestion, prefix: Prefix) -> list[Text]:
        """The texts whose final states a verdict is read from.

        Where the ask was observed under this program, the answer is executed behind it; else both run as one row.
        """
        first_layer = prefix[: len(prefix_of((0,)))]
        return _road(question, ("hidden", question.ask.text.id, first_layer) in self._states)

    def _judge(self, chunk: Sequence[tuple[EncodedQuestion, Prefix]]) -> dict[tuple[bytes, Prefix], Verdict]:
        """Execute some pairs and judge them."""
        roads = [self._road(question, prefix) for question, prefix in chunk]
        execution = self._execute([(t, prefix) for road, (_, prefix) in zip(roads, chunk, strict=True) for t in road])
        positions: list[list[Tensor]] = []
        for (question, prefix), road in zip(chunk, roads, strict=True):
            first, *rest = [execution.hidden[text.id, prefix] for text in road]
            if road[0] is question.whole:
                positions.append(whole_row(question, first))
            else:
                positions.append(behind_ask(question, first, rest[0] if rest else None))
        with torch_threads(self.threads):
            judged = judge(self.llm, [question for question, _ in chunk], positions, self.profile.read_out_rows)
        verdicts: dict[tuple[bytes, Prefix], Verdict] = {}
        for (question, prefix), verdict in zip(chunk, judged, strict=True):
            key = question.digest, prefix
            verdicts[key] = self._non_finite(question, prefix) if math.isnan(verdict.log_prob) else verdict
            self._verdicts.put(key, verdicts[key], _VERDICT_BYTES)
        if self.store is not None:
            self.store.put({VerdictStore.key(*key): verdict for key, verdict in verdicts.items()})
        return verdicts

    def _execute(self, targets: Sequence[tuple[Text, Prefix]]) -> Execution:
        execution = Execution(self.llm, self._states, self.stats, self.profile)
        with torch_threads(self.threads):
            for text, prefix in targets:
                execution.want(text, prefix)
            execution.run()
        return execution

    def _chunks(
        self, items: Sequence[Item], texts_of: Callable[[Item], tuple[list[Text], Prefix]]
    ) -> Iterator[list[Item]]:
        """Items in chunks whose states in flight keep their part of the memory bound.

        Programs go in lexicographic order: so they share the longest prefixes within a chunk.
        """
        most = self.memory_bytes * _IN_FLIGHT
        chunk: list[Item] = []
        size, prefixes = 0, set[Prefix]()
        for item in sorted(items, key=lambda each: texts_of(each)[1]):
            texts, prefix = texts_of(item)
            added = self._bytes(texts, shared=prefix in prefixes)
            if chunk and size + added > most:
                yield chunk
                chunk, size, prefixes = [], 0, set()
                added = self._bytes(texts)
            chunk.append(item)
            prefixes.add(prefix)
            size += added
        if chunk:
            yield chunk

    def _bytes(self, texts: Sequence[Text], shared: bool = False) -> int:
        """Bytes in flight for one item: hidden states before and after a layer of all its texts, and keys and values of
        those that stand before others; without the prompt's, where another item of the same program has them.
        """
        every = dict.fromkeys(each for text in texts for each in (*text.contexts, text))
        counted = [text for text in every if not (shared and text.role == "prompt")]
        tokens = sum((4 if text.reused else 2) * text.rows.numel() for text in counted)
        return tokens * self.llm.width * self.llm.dtype.itemsize

    def _require_memory(self, ask: Ask, in_flight: int) -> None:
        needed = math.ceil(in_flight / _IN_FLIGHT)
        if needed > self.memory_bytes:
            raise MemoryBoundError(
                f"{_mib(self.memory_bytes)} of memory beside the weights are too small for question {ask.id} "
                f"({ask.text[:60]!r}): it needs {_mib(needed)}. Raise the bound by the difference, or leave the "
                "question out."
            )

    def _non_finite(self, question: EncodedQuestion, prefix: Prefix) -> Verdict:
        """The verdict on a program that makes no numbers; the identity is executed again to name the layer at fault."""
        self.stats.non_finite += 1
        if prefix == prefix_of(self.llm.identity.layers):
            self.llm.run(question.gold_row[None], self.llm.identity)
            raise NonFiniteError("the identity's logits are NaN.")
        return Verdict(False, NO_CHANCE)


def _road(question: EncodedQuestion, observed: bool) -> list[Text]:
    """Ask and answer in one row, or the ask and what stands behind it."""
    if question.whole is not None and not observed:
        return [question.whole]
    return [question.ask.text, *([] if question.behind is None else [question.behind])]


def _divided(
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


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
