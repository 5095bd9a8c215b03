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

What is executed for observations and generation never depends on a gold answer: an ask is a text of its own, and the
`AskRunner` that does both holds no question.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from polar_env.errors import MemoryBoundError, NonFiniteError
from polar_env.llm.frozen import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Ask, Prompt, Question
from polar_env.runner.answers import Answer
from polar_env.runner.asks import (
    IN_FLIGHT,
    TOKENS,
    VERDICTS,
    AskedAnswer,
    AskedState,
    AskRunner,
    cached_and_missing,
    encoding_bytes,
)
from polar_env.runner.bounded import BoundedCache
from polar_env.runner.choosing import refuse_while_choosing
from polar_env.runner.decoding import Decoding, Generation, OnText
from polar_env.runner.encoding import EncodedAsk, EncodedQuestion, Text
from polar_env.runner.prefixes import Prefix, length_of, prefix_of
from polar_env.runner.profile import DeviceProfile
from polar_env.runner.readout import behind_ask, judge, whole_row
from polar_env.runner.stats import ExecutionStats
from polar_env.runner.store import VerdictStore
from polar_env.runner.verdict import NO_CHANCE, Verdict
from polar_env.runtime import torch_threads

__all__ = ["Runner"]

_VERDICT_BYTES = 512
"""A verdict in memory, with its key."""

AskedVerdict = tuple[Question, Prompt, Program]


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
        self.asks = AskRunner(llm, memory_bytes, threads, profile)
        """What agents may use."""
        self.store = store
        self._questions: BoundedCache[tuple[str, Question], EncodedQuestion] = BoundedCache(
            int(self.memory_bytes * TOKENS / 2)
        )
        self._read_store = True
        self.clear()

    def clear(self) -> None:
        """Forget all verdicts, states and observations in memory; token ids stay."""
        self.asks.clear()
        self._verdicts: BoundedCache[tuple[bytes, Prefix], Verdict] = BoundedCache(int(self.memory_bytes * VERDICTS))

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
    def llm(self) -> FrozenLLM:
        """The frozen LLM."""
        return self.asks.llm

    @property
    def stats(self) -> ExecutionStats:
        """What was asked for and what was executed."""
        return self.asks.stats

    @property
    def threads(self) -> int:
        """Torch threads that layers run on."""
        return self.asks.threads

    @property
    def memory_bytes(self) -> int:
        """Bound of what it keeps."""
        return self.asks.memory_bytes

    @property
    def memory_used(self) -> int:
        """Bytes that states, observations, verdicts and token ids take now."""
        return self.asks.memory_used + self._verdicts.used + self._questions.used

    def encode_ask(self, ask: Ask, prompt: Prompt) -> EncodedAsk:
        """An ask's token ids; see `AskRunner.encode_ask`."""
        return self.asks.encode_ask(ask, prompt)

    def observations(self, asked: Sequence[AskedState]) -> NDArray[np.float32]:
        """What an agent may see of partly executed programs; see `AskRunner.observations`."""
        return self.asks.observations(asked)

    def generate(
        self, asked: Sequence[AskedAnswer], decoding: Decoding | None = None, on_text: OnText | None = None
    ) -> list[Generation]:
        """Let programs write the answers; see `AskRunner.generate`."""
        return self.asks.generate(asked, decoding, on_text)

    def answers(
        self, asked: Sequence[AskedAnswer], temperature: float = 0.0, seeds: Sequence[int] = ()
    ) -> list[Answer]:
        """What programs answer; see `AskRunner.answers`."""
        return self.asks.answers(asked, temperature, seeds)

    def confidences(self, asked: Sequence[AskedState]) -> NDArray[np.float32]:
        """How sure the LLM is of the next token; see `AskRunner.confidences`."""
        return self.asks.confidences(asked)

    def answer_flops(self, ask: Ask, prompt: Prompt, program: Program, tokens: int) -> float:
        """Floating-point operations of an answer; see `AskRunner.answer_flops`."""
        return self.asks.answer_flops(ask, prompt, program, tokens)

    def encode(self, question: Question, prompt: Prompt) -> EncodedQuestion:
        """A question's token ids.

        Raises:
            QuestionTooLongError: if prompt and answer exceed the model's context.
            MemoryBoundError: if the memory bound is too small for it; says how much it needs.
        """
        key = prompt.digest, question
        encoded = self._questions.get(key)
        if encoded is None:
            encoded = self.asks.encoder(prompt).question(question, self.encode_ask(question.ask, prompt))
            self._require_memory(question.ask, self.asks.bytes_in_flight([*_road(encoded, observed=True)]))
            longest = encoded.whole or encoded.behind or encoded.ask.text
            self._questions.put(key, encoded, encoding_bytes(longest))
        return encoded

    def verdicts(self, asked: Sequence[AskedVerdict]) -> list[Verdict]:
        """Is the program's answer to the question right?

        Args:
            asked: any mix of questions, prompts and programs; what is repeated is executed once.

        Returns:
            One verdict for each.

        Raises:
            LeakError: inside of `no_verdicts_for`.
            ProgramError: if a program does not fit the model.
            QuestionTooLongError: if a question does not fit the model's context.
            MemoryBoundError: if the memory bound is too small for a question.
            NonFiniteError: if the identity makes NaN or infinite hidden states; names the position and the layer. Any
                other program that does is wrong, with log-probability `NO_CHANCE`, so that a search goes on.
        """
        refuse_while_choosing("a runner")
        started = time.perf_counter()
        pairs = [
            (self.encode(q, prompt), prefix_of(program.check(self.llm.depth).layers)) for q, prompt, program in asked
        ]
        keys = [(question.digest, prefix) for question, prefix in pairs]
        verdicts, missing = cached_and_missing(keys, pairs, self._verdicts)
        verdicts |= self._stored(list(missing))
        todo = [pair for key, pair in missing.items() if key not in verdicts]
        for part in self.asks.chunks(todo, lambda pair: ([pair[0].ask.text], pair[1])):
            self._execute_asks(part)
            for chunk in self.asks.chunks(part, lambda pair: (self._road(*pair), pair[1])):
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
        return _road(question, ("hidden", question.ask.text.id, first_layer) in self.asks.states)

    def _execute_asks(self, pairs: Sequence[tuple[EncodedQuestion, Prefix]]) -> None:
        """Execute the asks that were observed before their answers: so what batches they run in, and with it every bit
        of what is observed later, depends on no answer.
        """
        roads = [(self._road(question, prefix)[0], prefix) for question, prefix in pairs]
        observed = [(text, prefix) for text, prefix in roads if text.role == "ask"]
        if observed:
            self.asks.execute(observed)

    def _judge(self, chunk: Sequence[tuple[EncodedQuestion, Prefix]]) -> dict[tuple[bytes, Prefix], Verdict]:
        """Execute some pairs and judge them."""
        roads = [self._road(question, prefix) for question, prefix in chunk]
        execution = self.asks.execute(
            [(t, prefix) for road, (_, prefix) in zip(roads, chunk, strict=True) for t in road]
        )
        positions: list[list[Tensor]] = []
        for (question, prefix), road in zip(chunk, roads, strict=True):
            first, *rest = [execution.hidden[text.id, prefix] for text in road]
            if road[0] is question.whole:
                positions.append(whole_row(question, first))
            else:
                positions.append(behind_ask(question, first, rest[0] if rest else None))
        with torch_threads(self.threads):
            judged = judge(self.llm, [q for q, _ in chunk], positions, self.asks.profile.read_out_rows)
        verdicts: dict[tuple[bytes, Prefix], Verdict] = {}
        for (question, prefix), verdict in zip(chunk, judged, strict=True):
            key = question.digest, prefix
            verdicts[key] = self._non_finite(question, prefix) if math.isnan(verdict.log_prob) else verdict
            self._verdicts.put(key, verdicts[key], _VERDICT_BYTES)
        if self.store is not None:
            self.store.put({VerdictStore.key(*key): verdict for key, verdict in verdicts.items()})
        return verdicts

    def _require_memory(self, ask: Ask, in_flight: int) -> None:
        needed = math.ceil(in_flight / IN_FLIGHT)
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
    return question.texts


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
