"""The executor: (question, program) pairs in, verdicts and observations out.

Search, environments, agents and evaluation all go through it. What it saves, largest first:

1. A verdict is teacher-forced: one pass over prompt and gold answer; the answer is right where every gold token is the
   most likely one (greedy decoding would then have written it, and stopped).
2. Programs share prefixes: hidden states are kept by (question, program prefix).
3. Whatever question and program a row belongs to, rows that need the same layer next run as one batch.
4. The few-shot text before the question is the same for all questions: its keys and values under a program prefix are
   computed once. So are a question's, before its choices.
5. What was judged once is known, in memory and, with a `VerdictStore`, on disk.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polar_env.encoding import EncodedQuestion, Encoder, Text
from polar_env.errors import MemoryBoundError, NonFiniteError
from polar_env.executor.memory import BoundedCache, Node, length_of, node_of
from polar_env.executor.readout import judge, pool
from polar_env.executor.states import StateCache, execute
from polar_env.executor.stats import ExecutionStats
from polar_env.executor.store import VerdictStore
from polar_env.executor.verdict import NO_CHANCE, Verdict
from polar_env.llm.frozen import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Prompt, Question
from polar_env.runtime import torch_threads

__all__ = ["Executor"]

_STATES, _FEATURES, _VERDICTS = 0.75, 0.125, 0.0625
"""Shares of the memory bound; what is left of it is for the states in flight."""
_IN_FLIGHT = 1 - _STATES - _FEATURES - _VERDICTS
_VERDICT_BYTES = 512
"""A verdict in memory, with its key."""

Pair = tuple[EncodedQuestion, Node]
"""A question and a program (or program prefix) as a node."""
PairKey = tuple[str, Node]
"""The same, with the encoded question's id."""
Known = TypeVar("Known")


class Executor:
    """Executes programs on questions under one prompt, and remembers what it has done.

    What it keeps is bounded: hidden states, keys and values take three quarters of the bound, observations an eighth,
    verdicts a sixteenth. In each part what was used least recently goes first. Work is cut so that the states in flight
    take about the last sixteenth; activations and logits of one batch, and what is in use though it was forgotten, come
    on top.

    Args:
        llm: the frozen LLM.
        prompt: the prompt under which questions are asked.
        memory_bytes: bound of what it keeps, without the model's weights.
        store: keeps verdicts on disk, for other processes and later runs; None keeps them in memory alone.
        threads: torch threads that layers run on; None takes torch's own number.
    """

    def __init__(
        self,
        llm: FrozenLLM,
        prompt: Prompt,
        memory_bytes: int = 2 << 30,
        store: VerdictStore | None = None,
        threads: int | None = None,
    ) -> None:
        self.llm = llm
        self.prompt = prompt
        self.memory_bytes = memory_bytes
        self.store = store
        self.threads = threads or torch.get_num_threads()
        self.encoder = Encoder(llm, prompt)
        self.stats = ExecutionStats()
        self._read_store = True
        self.clear()

    def clear(self) -> None:
        """Forget all verdicts and states in memory."""
        self._states = StateCache(int(self.memory_bytes * _STATES))
        self._features: BoundedCache[PairKey, NDArray[np.float16]] = BoundedCache(int(self.memory_bytes * _FEATURES))
        self._verdicts: BoundedCache[PairKey, Verdict] = BoundedCache(int(self.memory_bytes * _VERDICTS))

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
        """Bytes that states, observations and verdicts take now."""
        return self._states.used + self._features.used + self._verdicts.used

    def check(self, questions: Sequence[Question]) -> None:
        """Encode all questions now, so that one that does not fit is refused before a run starts.

        Raises:
            QuestionTooLongError: naming the question.
            MemoryBoundError: if the memory bound is too small for one of them; says how much it needs.
        """
        for question in questions:
            self._encode(question)

    def verdicts(self, pairs: Sequence[tuple[Question, Program]]) -> list[Verdict]:
        """Is the program's answer to the question right?

        Args:
            pairs: any mix of questions and programs; repeated pairs are executed once.

        Returns:
            One verdict for each pair.

        Raises:
            ProgramError: if a program does not fit the model.
            QuestionTooLongError: if a question does not fit the model's context.
            MemoryBoundError: if the memory bound is too small for a question.
            NonFiniteError: if the identity makes NaN or infinite hidden states; names the step and the layer. Any other
                program that does is wrong, with log-probability `NO_CHANCE`, so that a search goes on.
        """
        started = time.perf_counter()
        asked = [(self._encode(question), node_of(program.check(self.depth).layers)) for question, program in pairs]
        found, missing = _divided(asked, self._verdicts)
        found |= self._stored(missing)
        todo = [pair for key, pair in missing.items() if key not in found]
        for chunk in self._chunks(todo):
            found |= self._judge(chunk)
        self.stats.verdicts += len(pairs)
        self.stats.cached_verdicts += len(pairs) - len(todo)
        self.stats.asked_layers += sum(len(program) for _, program in pairs)
        self.stats.asked_tokens += sum(question.tokens * length_of(node) for question, node in todo)
        self.stats.seconds += time.perf_counter() - started
        return [found[question.id, node] for question, node in asked]

    def knows(self, question: Question, program: Program) -> bool:
        """Whether a verdict is in memory."""
        return (self.encoder(question).id, node_of(program.layers)) in self._verdicts.entries

    def remember(self, question: Question, program: Program, verdict: Verdict) -> None:
        """Take in a verdict that was found before, by the same model under the same prompt."""
        self._verdicts.put((self.encoder(question).id, node_of(program.layers)), verdict, _VERDICT_BYTES)

    def features(self, pairs: Sequence[tuple[Question, tuple[int, ...]]]) -> NDArray[np.float32]:
        """What a policy may see of partly executed programs; the answer's tokens never enter.

        Args:
            pairs: questions and the layers executed so far (possibly none).

        Returns:
            ``float32 [N, 2 H]``: hidden state of the last prompt token, then the mean over the question's tokens,
            each divided by its root mean square.
        """
        started = time.perf_counter()
        asked = [(self._encode(question), node_of(layers)) for question, layers in pairs]
        found, missing = _divided(asked, self._features)
        for chunk in self._chunks(list(missing.values())):
            states = self._execute([(question.text, node) for question, node in chunk])
            for (question, node), feature in zip(chunk, pool([q for q, _ in chunk], states), strict=True):
                found[question.id, node] = feature
                self._features.put((question.id, node), feature.copy(), feature.nbytes)
        self.stats.asked_layers += sum(1 for _, layers in pairs if layers)  # one step further each
        self.stats.asked_tokens += sum(q.text.past + q.prompt_length for q, node in missing.values() if node)
        self.stats.seconds += time.perf_counter() - started
        return np.stack([found[question.id, node] for question, node in asked]).astype(np.float32)

    def _encode(self, question: Question) -> EncodedQuestion:
        encoded = self.encoder(question)
        needed = math.ceil(self._pair_bytes(encoded) / _IN_FLIGHT)
        if needed > self.memory_bytes:
            raise MemoryBoundError(
                f"{_mib(self.memory_bytes)} of memory beside the weights are too small for question {question.id} "
                f"({question.text[:60]!r}): it needs {_mib(needed)}. Raise the bound by the difference, or leave the "
                "question out."
            )
        return encoded

    def _stored(self, missing: dict[PairKey, Pair]) -> dict[PairKey, Verdict]:
        """The verdicts among those missing that are on disk."""
        if self.store is None or not self._read_store or not missing:
            return {}
        keys = {VerdictStore.key(question.digest, node): (question.id, node) for question, node in missing.values()}
        found = {keys[key]: verdict for key, verdict in self.store.get(list(keys)).items()}
        for key, verdict in found.items():
            self._verdicts.put(key, verdict, _VERDICT_BYTES)
        self.stats.stored_verdicts += len(found)
        return found

    def _judge(self, chunk: Sequence[Pair]) -> dict[PairKey, Verdict]:
        """Execute some pairs and judge them."""
        choices = [(question.choices, node) for question, node in chunk if question.choices is not None]
        states = iter(self._execute([(question.text, node) for question, node in chunk] + choices))
        texts = list(islice(states, len(chunk)))
        behind = [None if question.choices is None else next(states) for question, _ in chunk]
        with torch_threads(self.threads):
            verdicts = judge(self.llm, [question for question, _ in chunk], texts, behind)
        made: dict[PairKey, Verdict] = {}
        for (question, node), verdict in zip(chunk, verdicts, strict=True):
            if math.isnan(verdict.log_prob):
                verdict = self._non_finite(question, node)
            made[question.id, node] = verdict
            self._verdicts.put((question.id, node), verdict, _VERDICT_BYTES)
        if self.store is not None:
            self.store.put({VerdictStore.key(q.digest, node): made[q.id, node] for q, node in chunk})
        return made

    def _execute(self, targets: Sequence[tuple[Text, Node]]) -> list[Tensor]:
        with torch_threads(self.threads):
            return execute(self.llm, targets, self._states, self.stats)

    def _chunks(self, pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
        """Pairs in chunks whose states in flight keep their part of the memory bound.

        Programs go in lexicographic order: so they share the longest prefixes within a chunk.
        """
        most = self.memory_bytes * _IN_FLIGHT
        chunk: list[Pair] = []
        size, nodes = 0, set[Node]()
        for question, node in sorted(pairs, key=lambda pair: pair[1]):
            added = self._pair_bytes(question, shared=node in nodes)
            if chunk and size + added > most:
                yield chunk
                chunk, size, nodes = [], 0, set()
                added = self._pair_bytes(question)
            chunk.append((question, node))
            nodes.add(node)
            size += added
        if chunk:
            yield chunk

    def _pair_bytes(self, question: EncodedQuestion, shared: bool = False) -> int:
        """Bytes in flight for one pair: hidden states before and after a step of all its texts, and keys and values of
        those that precede others; without the few-shot prompt's, where another pair of the same program has them.
        """
        last = question.choices or question.text
        texts = [each for each in (*last.before, last) if not (shared and each.role == "prompt")]
        tokens = sum((4 if each.precedes else 2) * each.rows.numel() for each in texts)
        return tokens * self.llm.width * self.llm.dtype.itemsize

    def _non_finite(self, question: EncodedQuestion, node: Node) -> Verdict:
        """The verdict on a program that makes no numbers; the identity is executed again to name the step at fault."""
        self.stats.non_finite += 1
        if node == node_of(self.llm.identity.layers):
            self.llm.run(question.whole_row[None], self.llm.identity)
            raise NonFiniteError(f"the identity's logits of question {question.id} are NaN.")
        return Verdict(False, NO_CHANCE)


def _divided(
    pairs: Sequence[Pair], cache: BoundedCache[PairKey, Known]
) -> tuple[dict[PairKey, Known], dict[PairKey, Pair]]:
    """What is known of some pairs, and the pairs of which nothing is."""
    found: dict[PairKey, Known] = {}
    missing: dict[PairKey, Pair] = {}
    for question, node in pairs:
        known = cache.get((question.id, node))
        if known is None:
            missing[question.id, node] = question, node
        else:
            found[question.id, node] = known
    return found, missing


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
