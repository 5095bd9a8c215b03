"""Executing programs on asks: observations of partly executed programs, and generation. No answer comes near.

What is executed here depends on asks, prompts and programs alone, and so do its batches. Agents get no more of a runner
than this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from polar_env.errors import NonFiniteError
from polar_env.llm.frozen import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Ask, Prompt
from polar_env.runner.answers import NO_ANSWER, Answer, of_choices, of_generation
from polar_env.runner.bounded import BoundedCache
from polar_env.runner.decoding import Decoding, Generation, OnText
from polar_env.runner.encoding import EncodedAsk, EncodedCandidates, Encoder, Text
from polar_env.runner.generation import write
from polar_env.runner.prefixes import Prefix, prefix_of
from polar_env.runner.profile import DeviceProfile, memory_beside
from polar_env.runner.readout import behind_ask, next_token_confidence, pool, score
from polar_env.runner.schedule import Execution, StateCache
from polar_env.runner.stats import ExecutionStats
from polar_env.runtime import torch_threads

__all__ = ["IN_FLIGHT", "TOKENS", "VERDICTS", "AskRunner", "cached_and_missing", "encoding_bytes"]

_STATES, _OBSERVATIONS, VERDICTS, TOKENS = 0.75, 0.109375, 0.0625, 0.015625
"""Shares of the memory bound; what is left of it is for the states in flight."""
_ANSWERS = 0.015625
"""Of the observations' share, what answers take."""
IN_FLIGHT = 1 - _STATES - _OBSERVATIONS - VERDICTS - TOKENS
_ENCODING_BYTES, _TOKEN_BYTES = 4096, 128
"""An encoded ask or question in memory, and each of its tokens."""
_PROMPTS = 1024
"""Prompts whose encoder is kept."""

_ANSWER_BYTES = 1024
"""An answer in memory, with its key."""

AnswerKey = tuple[bytes, tuple[str, ...], int, tuple[int, ...], float, int]
"""Of an answer: the ask's text, its choices, the most tokens, the program's layers, temperature and seed."""
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
        """Forget all states, observations and answers; token ids stay."""
        self.states = StateCache(int(self.memory_bytes * _STATES))
        self._observations: BoundedCache[tuple[bytes, Prefix], NDArray[np.float16]] = BoundedCache(
            int(self.memory_bytes * (_OBSERVATIONS - _ANSWERS))
        )
        self._answers: BoundedCache[AnswerKey, Answer] = BoundedCache(int(self.memory_bytes * _ANSWERS))

    @property
    def memory_used(self) -> int:
        """Bytes that states, observations, answers and token ids of asks take now."""
        return self.states.used + self._observations.used + self._answers.used + self._asks.used

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

    def answers(
        self, asked: Sequence[AskedAnswer], temperature: float = 0.0, seeds: Sequence[int] = ()
    ) -> list[Answer]:
        """What programs answer: of an ask's choices the likeliest, else what they write.

        Args:
            asked: any mix of asks, prompts and programs; an answer has as many tokens as its prompt allows.
            temperature: 0 is greedy; else tokens, or the choice, are sampled.
            seeds: one for each ask, where answers are sampled.

        Returns:
            An answer for each; an empty one where a program other than the identity makes no numbers.

        Raises:
            ProgramError, QuestionTooLongError: as `generate`.
            NonFiniteError: if the identity makes NaN or infinite hidden states.
        """
        keys = [
            (self.encode_ask(ask, prompt).text.id, ask.choices, prompt.max_new_tokens, program.layers, temperature,
             seeds[i] if temperature else 0)
            for i, (ask, prompt, program) in enumerate(asked)
        ]  # fmt: skip
        answers, missing = cached_and_missing(keys, list(enumerate(asked)), self._answers)
        groups: dict[int, list[AnswerKey]] = {}  # by most tokens; 0 for a choice
        for key, (_, (ask, prompt, _)) in missing.items():
            groups.setdefault(0 if ask.choices else prompt.max_new_tokens, []).append(key)
        for bound, group in groups.items():
            rows = [missing[key][1] for key in group]
            own = tuple(seeds[missing[key][0]] for key in group) if temperature else ()
            written = (
                self._write(rows, Decoding(bound, temperature, seed=own or 0))
                if bound
                else self._choose(rows, temperature, own)
            )
            for key, answer in zip(group, written, strict=True):
                answers[key] = answer
                self._answers.put(key, answer, _ANSWER_BYTES)
        return [answers[key] for key in keys]

    def confidences(self, asked: Sequence[AskedState]) -> NDArray[np.float32]:
        """How sure the LLM is of the next token, had it stopped after the layers executed so far.

        Args:
            asked: asks, their prompts, and at least one layer each.

        Returns:
            ``float32 [N, 3]``: probability of the likeliest next token, its lead over the second one's, and entropy in
            nats; 0, 0 and the largest entropy where a program made no numbers.
        """
        started = time.perf_counter()
        pairs = [(i, self.encode_ask(ask, p).text, prefix_of(layers)) for i, (ask, p, layers) in enumerate(asked)]
        confidences = np.zeros((len(pairs), 3), np.float32)
        for chunk in self.chunks(pairs, lambda pair: ([pair[1]], pair[2])):
            execution = self.execute([(text, prefix) for _, text, prefix in chunk])
            last = torch.stack([execution.hidden[text.id, prefix][0, -1] for _, text, prefix in chunk])
            with torch_threads(self.threads):
                of_chunk = next_token_confidence(self.llm, last, self.profile.read_out_rows)
            confidences[[i for i, *_ in chunk]] = of_chunk
        self.stats.seconds += time.perf_counter() - started
        return confidences

    def _write(self, asked: Sequence[AskedAnswer], decoding: Decoding) -> list[Answer]:
        """Written answers; where a row fails, the rows are written one by one, so that the others stand."""
        try:
            return [of_generation(written) for written in self.generate(asked, decoding)]
        except NonFiniteError:
            if len(asked) == 1 and asked[0][2] != self.llm.identity:
                return [NO_ANSWER]
            if len(asked) == 1:
                raise
        seeds = decoding.seed if isinstance(decoding.seed, tuple) else range(decoding.seed, decoding.seed + len(asked))
        each = zip(asked, seeds, strict=True)
        return [answer for one, seed in each for answer in self._write([one], replace(decoding, seed=seed))]

    def _choose(self, asked: Sequence[AskedAnswer], temperature: float, seeds: Sequence[int]) -> list[Answer]:
        """A choice for each ask."""
        started = time.perf_counter()
        items = [
            (
                i,
                self._candidates(ask, prompt),
                prefix_of(program.check(self.llm.depth).layers),
            )
            for i, (ask, prompt, program) in enumerate(asked)
        ]
        answers: dict[int, Answer] = {}
        for chunk in self.chunks(items, lambda item: (item[1].texts, item[2])):
            execution = self.execute([(text, prefix) for _, each, prefix in chunk for text in each.texts])
            positions = []
            for _, each, prefix in chunk:
                first, *rest = [execution.hidden[text.id, prefix] for text in each.texts]
                positions.append(behind_ask(each, first, rest[0] if rest else None))
            with torch_threads(self.threads):
                scores = score(self.llm, [each for _, each, _ in chunk], positions, self.profile.read_out_rows)
            for (i, *_), of in zip(chunk, scores, strict=True):
                answers[i] = of_choices(asked[i][0].choices, of, temperature, seeds[i] if temperature else 0)
        self.stats.seconds += time.perf_counter() - started
        return [answers[i] for i in range(len(asked))]

    def answer_flops(self, ask: Ask, prompt: Prompt, program: Program, tokens: int) -> float:
        """Floating-point operations that a program's answer takes, the worked examples left out: they serve many asks.

        Args:
            ask: the ask.
            prompt: its prompt.
            program: the program.
            tokens: tokens that were written; 0 where a choice was made, whose candidates are all executed.
        """
        flops, text = self.llm.flops, self.encode_ask(ask, prompt).text
        past, total = text.past + text.length, flops.of_program(program, text.length, text.past)
        if tokens:  # the last one is not executed
            steps = (flops.of_program(program, 1, past + step) for step in range(tokens - 1))
            return total + sum(steps) + tokens * flops.of_read_out
        lengths = [len(each) for each in self._candidates(ask, prompt).answers] if ask.choices else [1]
        total += sum(flops.of_program(program, length - 1, past) for length in lengths)
        return total + sum(lengths) * flops.of_read_out

    def _candidates(self, ask: Ask, prompt: Prompt) -> EncodedCandidates:
        """An ask's choices as token ids."""
        return self.encoder(prompt).candidates(ask, self.encode_ask(ask, prompt), ask.choices)

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
