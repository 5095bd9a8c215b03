"""The one place where programs meet questions: (question, program) pairs in, verdicts and observations out.

Search, environments, agents and evaluation all go through an `Executor`. What it saves, largest first:

1. A verdict is teacher-forced: one pass over prompt and gold answer; the answer is right where every gold token is the
   most likely one (greedy decoding would then have written it, and stopped).
2. Programs share prefixes: hidden states are kept by (question, program prefix), least recently used out first.
3. Whatever question and program a row belongs to, rows that need the same layer next run as one batch.
4. The few-shot text before the question is the same for all questions: its keys and values under a program prefix are
   computed once.

Axis letters: ``B`` rows, ``P`` tokens of the shared prompt prefix, ``T`` tokens of a row after it, ``H`` width,
``C`` candidate answers of a question (1 unless it is multiple choice), ``V`` vocabulary.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polar_env.encoding import EncodedQuestion, Encoder
from polar_env.errors import NonFiniteError
from polar_env.llm.frozen import FrozenLLM
from polar_env.llm.slots import Slot
from polar_env.memory import ROOT, BoundedCache, ProgramTrie
from polar_env.program import Program
from polar_env.questions import Prompt, Question
from polar_env.threads import torch_threads

__all__ = ["ExecutionStats", "Executor", "Verdict"]

NO_CHANCE = -1000.0
"""Log-probability in nats of a program that makes no numbers: finite, so that means over programs stay so, too."""
_BATCH_TOKENS = 2048
"""Most tokens in one batch; larger ones are slower on CPUs, since activations leave the cache."""
_CHUNK_TOKENS = 16_384
"""Most tokens of (question, program) pairs in flight, which bounds the memory of their hidden states."""


@dataclass(frozen=True)
class Verdict:
    """What a program made of a question.

    Attributes:
        right: whether the program's greedy answer is the gold one.
        log_prob: log-probability of the gold answer in nats (mean per token for multiple choice).
        said: token ids of the answer: for an open question what greedy decoding writes up to the first token that is
            not the gold answer's, for multiple choice the likeliest choice; empty where it was not kept.
    """

    right: bool
    log_prob: float
    said: tuple[int, ...] = ()


@dataclass
class ExecutionStats:
    """What was asked for and what was really executed.

    Attributes:
        verdicts: verdicts given.
        cached_verdicts: of these, how many were known already.
        asked_layers: layer executions that the programs asked for spell out, one by one.
        executed_layers: layer executions really done on question rows.
        prefix_layers: layer executions really done on the shared prompt prefix.
        non_finite: verdicts on programs that made NaN.
        seconds: time spent executing.
    """

    verdicts: int = 0
    cached_verdicts: int = 0
    asked_layers: int = 0
    executed_layers: int = 0
    prefix_layers: int = 0
    non_finite: int = 0
    seconds: float = 0.0

    @property
    def hit_rate(self) -> float:
        """Share of verdicts that were known already."""
        return self.cached_verdicts / max(1, self.verdicts)

    @property
    def sharing(self) -> float:
        """Layer executions asked for over those done on question rows."""
        return self.asked_layers / max(1, self.executed_layers)

    def since(self, earlier: ExecutionStats) -> ExecutionStats:
        """The difference to an earlier copy."""
        names = [field.name for field in fields(self)]
        return ExecutionStats(**{n: getattr(self, n) - getattr(earlier, n) for n in names})


StateKey = tuple[str, int]
"""Question id and trie node of a program prefix."""


@dataclass(frozen=True)
class _PrefixState:
    """The shared prompt prefix after a program prefix: hidden states and the last step's keys and values."""

    hidden: Tensor  # [P, H]
    keys: Tensor | None = None  # [G, P, E]
    values: Tensor | None = None  # [G, P, E]

    @property
    def bytes(self) -> int:
        return sum(t.nbytes for t in (self.hidden, self.keys, self.values) if t is not None)


class Executor:
    """Executes programs on questions under one prompt, and remembers what it has done.

    Args:
        llm: the frozen LLM.
        prompt: the prompt under which questions are asked.
        cache_bytes: bound of all cached hidden states, keys and values together.
    """

    def __init__(self, llm: FrozenLLM, prompt: Prompt, cache_bytes: int = 3 << 29) -> None:
        self.llm = llm
        self.prompt = prompt
        self.cache_bytes = cache_bytes
        self.encoder = Encoder(llm, prompt)
        self.stats = ExecutionStats()
        self._trie = ProgramTrie()
        self._threads = torch.get_num_threads()
        self.clear()

    def clear(self) -> None:
        """Forget all verdicts and states, so that the next run is timed from nothing."""
        quarter = self.cache_bytes // 4
        self._states: BoundedCache[StateKey, Tensor] = BoundedCache(quarter)
        self._features: BoundedCache[StateKey, NDArray[np.float16]] = BoundedCache(quarter)
        self._prefix_states: BoundedCache[tuple[int, int], _PrefixState] = BoundedCache(2 * quarter)
        self._verdicts: dict[StateKey, Verdict] = {}

    @property
    def depth(self) -> int:
        """The model's depth ``D``."""
        return self.llm.depth

    def check(self, questions: Sequence[Question]) -> None:
        """Encode all questions now, so that one that does not fit is refused before a run starts.

        Raises:
            QuestionTooLongError: naming the question.
        """
        for question in questions:
            self.encoder(question)

    def verdicts(self, pairs: Sequence[tuple[Question, Program]]) -> list[Verdict]:
        """Is the program's answer to the question right?

        Args:
            pairs: any mix of questions and programs; repeated pairs are executed once.

        Returns:
            One verdict for each pair.

        Raises:
            ProgramError: if a program does not fit the model.
            NonFiniteError: if the identity makes NaN or infinite hidden states; names the step and the layer. Any other
                program that does is wrong, with log-probability `NO_CHANCE`, so that a search goes on.
        """
        started = time.perf_counter()
        keys = [self._key(question, program.check(self.depth).layers) for question, program in pairs]
        missing = {
            key: (self.encoder(question), program.layers)
            for key, (question, program) in zip(keys, pairs, strict=True)
            if key not in self._verdicts
        }
        self.stats.verdicts += len(pairs)
        self.stats.cached_verdicts += len(pairs) - len(missing)
        self.stats.asked_layers += sum(len(program) for _, program in pairs)
        # Programs in lexicographic order share the longest prefixes within a chunk.
        order = sorted(missing, key=lambda key: missing[key][1])
        for chunk in _chunks_of_tokens(order, [missing[key][0] for key in order]):
            targets = [missing[key] for key in chunk]
            with torch_threads(self._threads):
                verdicts = self._judge([encoded for encoded, _ in targets], self._execute(targets))
            for key, (encoded, layers), verdict in zip(chunk, targets, verdicts, strict=True):
                self._verdicts[key] = self._non_finite(encoded, layers) if math.isnan(verdict.log_prob) else verdict
        self.stats.seconds += time.perf_counter() - started
        return [self._verdicts[key] for key in keys]

    def remember(self, question: Question, program: Program, verdict: Verdict) -> None:
        """Take in a verdict that was found before, by the same model under the same prompt."""
        self._verdicts[self._key(question, program.layers)] = verdict

    def features(self, pairs: Sequence[tuple[Question, tuple[int, ...]]]) -> NDArray[np.float32]:
        """What a policy may see of partly executed programs; the answer's tokens never enter.

        Args:
            pairs: questions and the layers executed so far (possibly none).

        Returns:
            ``float32 [N, 2 H]``: hidden state of the last prompt token, then the mean over the question's tokens,
            each divided by its root mean square.
        """
        started = time.perf_counter()
        keys = [self._key(question, layers) for question, layers in pairs]
        found = {key: feature for key in keys if (feature := self._features.get(key)) is not None}
        missing = {
            key: (self.encoder(question), layers)
            for key, (question, layers) in zip(keys, pairs, strict=True)
            if key not in found
        }
        self.stats.asked_layers += sum(1 for _, layers in pairs if layers)  # one step further each
        for chunk in _chunks_of_tokens(list(missing), [encoded for encoded, _ in missing.values()]):
            targets = [missing[key] for key in chunk]
            with torch_threads(self._threads):
                observed = list(self._observe(targets))
            for key, feature in zip(chunk, observed, strict=True):
                found[key] = feature
                self._features.put(key, feature, feature.nbytes)
        self.stats.seconds += time.perf_counter() - started
        return np.stack([found[key] for key in keys]).astype(np.float32)

    def _key(self, question: Question, layers: tuple[int, ...]) -> StateKey:
        return question.id, self._trie.path(layers)[-1]

    # -- executing -----------------------------------------------------------------------------------------------

    def _execute(self, targets: Sequence[tuple[EncodedQuestion, tuple[int, ...]]]) -> list[Tensor]:
        """Hidden states ``[C, T, H]`` of each target question after its program."""
        live: dict[StateKey, Tensor] = {}
        following, ends = self._plan(targets, live)
        waiting: dict[int, list[tuple[EncodedQuestion, int]]] = defaultdict(list)
        pending = {key: len(layers) + (key in ends) for key, layers in following.items()}
        for key in live:
            for layer in following.get(key, ()):
                waiting[layer].append((self.encoder.by_id(key[0]), key[1]))
        while waiting:
            layer = min(waiting)  # the lowest first: rows ahead wait there for the others and join their batch
            for batch in self._batches(waiting.pop(layer)):
                outputs = self._apply(layer, batch, [live[(e.id, node)] for e, node in batch])
                features = _pool([e for e, _ in batch], torch.stack([hidden[0] for hidden in outputs]))
                for (encoded, node), hidden, feature in zip(batch, outputs, features, strict=True):
                    before, after = (encoded.id, node), (encoded.id, self._trie.child(node, layer))
                    pending[before] -= 1
                    if not pending[before]:
                        del live[before]  # every extension is made: free its memory
                    live[after] = hidden
                    self._states.put(after, hidden, hidden.nbytes)
                    self._features.put(after, feature.copy(), feature.nbytes)
                    for next_layer in following.get(after, ()):
                        waiting[next_layer].append((encoded, after[1]))
        return [live[(e.id, self._trie.path(layers)[-1])] for e, layers in targets]

    def _plan(
        self, targets: Sequence[tuple[EncodedQuestion, tuple[int, ...]]], live: dict[StateKey, Tensor]
    ) -> tuple[dict[StateKey, set[int]], set[StateKey]]:
        """Which layers must follow which states, and which states are wanted; puts known states into ``live``."""
        following: dict[StateKey, set[int]] = defaultdict(set)
        ends: set[StateKey] = set()
        for encoded, layers in targets:
            path = self._trie.path(layers)
            ends.add((encoded.id, path[-1]))
            for position in range(len(layers), -1, -1):
                key = (encoded.id, path[position])
                if position < len(layers):
                    following[key].add(layers[position])
                if key in live:
                    break
                known = self._states.get(key) if position else self.llm.embed(encoded.rows, len(encoded.prefix))
                if known is not None:
                    live[key] = known
                    break
        return following, ends

    def _batches(self, rows: list[tuple[EncodedQuestion, int]]) -> Iterator[list[tuple[EncodedQuestion, int]]]:
        """Rows of one shared prompt prefix and of like length, at most `_BATCH_TOKENS` tokens together."""
        by_length = sorted(rows, key=lambda row: (len(row[0].prefix), row[0].bucket))
        batch: list[tuple[EncodedQuestion, int]] = []
        for row in by_length:
            shape = (row[0].prefix, row[0].bucket)
            tokens = (len(batch) + 1) * row[0].bucket * len(row[0].rows)
            if batch and (shape != (batch[0][0].prefix, batch[0][0].bucket) or tokens > _BATCH_TOKENS):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _apply(self, layer: int, batch: list[tuple[EncodedQuestion, int]], states: list[Tensor]) -> list[Tensor]:
        """One layer on rows that share prompt prefix and length; ``[C, T, H]`` in and out for each question."""
        encoded = batch[0][0]
        hidden = torch.cat(states)  # [B, T, H]
        slot = Slot()
        if encoded.prefix:
            nodes = [node for _, node in batch]
            distinct = list(dict.fromkeys(nodes))
            prefix_states = self._prefix_after(encoded.prefix, layer, distinct)
            index = {node: i for i, node in enumerate(distinct)}
            picks = [index[n] for n, s in zip(nodes, states, strict=True) for _ in range(len(s))]
            slot = Slot(
                _pick([s.keys for s in prefix_states], picks),  # [B, G, P, E]
                _pick([s.values for s in prefix_states], picks),
            )
        inputs = self.llm.shape_inputs(len(encoded.prefix), hidden.shape[1])
        output = self.llm.apply(layer, hidden, inputs, slot)
        self.stats.executed_layers += len(batch)
        # Clones, because a view would keep the whole batch alive in the cache.
        return [rows.clone() for rows in output.split([len(state) for state in states])]

    def _prefix_after(self, prefix: tuple[int, ...], layer: int, nodes: list[int]) -> list[_PrefixState]:
        """The shared prompt prefix after each program prefix in ``nodes`` and then ``layer``."""
        made: dict[int, _PrefixState] = {}
        needed = [self._trie.child(node, layer) for node in nodes]
        missing: dict[int, None] = {}
        for node in needed:  # every ancestor whose state is not at hand must be computed again, too
            while node != ROOT and node not in made and node not in missing:
                cached = self._prefix_states.get((len(prefix), node))
                if cached is not None:
                    made[node] = cached
                    break
                missing[node] = None
                node = self._trie.parents[node]
        made[ROOT] = self._prefix_root(prefix)
        inputs = self.llm.shape_inputs(0, len(prefix))
        for node in sorted(missing):  # parents are always numbered before their children
            step = self._trie.layers[node]
            slot = Slot()
            before = made[self._trie.parents[node]].hidden.unsqueeze(0)  # [1, P, H]
            hidden = self.llm.apply(step, before, inputs, slot)
            assert slot.keys is not None
            assert slot.values is not None
            state = made[node] = _PrefixState(hidden[0], slot.keys[0], slot.values[0])
            self._prefix_states.put((len(prefix), node), state, state.bytes)
            self.stats.prefix_layers += 1
        return [made[node] for node in needed]

    def _prefix_root(self, prefix: tuple[int, ...]) -> _PrefixState:
        key = (len(prefix), ROOT)
        state = self._prefix_states.get(key)
        if state is None:
            state = _PrefixState(self.llm.embed(torch.tensor([prefix]))[0])
            self._prefix_states.put(key, state, state.bytes)
        return state

    # -- reading out ---------------------------------------------------------------------------------------------

    def _judge(self, questions: Sequence[EncodedQuestion], states: Sequence[Tensor]) -> list[Verdict]:
        """Verdicts from the final hidden states, reading out only the positions before answer tokens."""
        rows = [
            hidden[c, q.answer_slice(c)]
            for q, hidden in zip(questions, states, strict=True)
            for c in range(len(hidden))
        ]
        gold = [torch.tensor(q.answers[c]) for q, s in zip(questions, states, strict=True) for c in range(len(s))]
        log_probs: list[Tensor] = []
        greedy: list[list[int]] = []
        for some_rows, some_gold in zip(_chunks(rows, 64), _chunks(gold, 64), strict=True):
            lengths = [len(r) for r in some_rows]
            logits = self.llm.read_out(torch.cat(list(some_rows))).float()  # [N, V]
            target = torch.cat(list(some_gold)).to(logits.device)  # [N]
            log_probs += logits.log_softmax(-1).gather(-1, target[:, None])[:, 0].split(lengths)
            greedy += [tokens.tolist() for tokens in logits.argmax(-1).split(lengths)]
        verdicts, at = [], 0
        for question, state in zip(questions, states, strict=True):
            count = len(state)
            if count == 1:
                verdicts.append(_open_verdict(question.answers[0], greedy[at], float(log_probs[at].sum())))
            else:
                means = [float(lp.mean()) for lp in log_probs[at : at + count]]
                best = int(np.argmax(means))  # a NaN, where there is one
                finite = not math.isnan(means[best])
                log_prob = means[question.gold] if finite else math.nan
                verdicts.append(Verdict(finite and best == question.gold, log_prob, question.answers[best]))
            at += count
        return verdicts

    def _non_finite(self, question: EncodedQuestion, layers: tuple[int, ...]) -> Verdict:
        """The verdict on a program that makes no numbers; the identity is executed again to name the step at fault."""
        self.stats.non_finite += 1
        if layers == self.llm.identity.layers:
            row = [*question.prefix, *question.rows[question.gold].tolist()]
            self.llm.run(torch.tensor([row]), self.llm.identity)
            raise NonFiniteError(f"the identity's logits of question {question.id} are NaN.")
        return Verdict(False, NO_CHANCE)

    def _observe(self, targets: Sequence[tuple[EncodedQuestion, tuple[int, ...]]]) -> Iterator[NDArray[np.float16]]:
        """Features of some states; those of executed states were kept when they were executed."""
        states = self._execute(targets)
        for (encoded, layers), hidden in zip(targets, states, strict=True):
            kept = self._features.get((encoded.id, self._trie.path(layers)[-1]))
            yield _pool([encoded], hidden[:1])[0] if kept is None else kept


def _open_verdict(gold: tuple[int, ...], greedy: list[int], log_prob: float) -> Verdict:
    """The verdict on an open question, from the likeliest token at every position of the gold answer."""
    agreed = next((i for i, (a, b) in enumerate(zip(gold, greedy, strict=True)) if a != b), len(gold))
    return Verdict(agreed == len(gold), log_prob, tuple(greedy[: agreed + 1]))


def _pool(questions: Sequence[EncodedQuestion], hidden: Tensor) -> NDArray[np.float16]:
    """What a policy sees of hidden states ``[B, T, H]``, a row each: see `Executor.features`; ``[B, 2 H]``."""
    hidden = hidden.float()
    lengths = torch.tensor([question.prompt_length for question in questions], device=hidden.device)  # [B]
    last = hidden[torch.arange(len(lengths), device=hidden.device), lengths - 1]  # [B, H]
    asked = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]  # [B, T]
    mean = (hidden * asked[..., None]).sum(1) / lengths[:, None]  # [B, H]
    both = torch.stack([last, mean], dim=1)  # [B, 2, H]
    both = both / both.pow(2).mean(-1, keepdim=True).sqrt().clamp(min=1e-6)
    both = both.nan_to_num(0.0, 0.0, 0.0)  # what a program spoils says nothing, but must not spoil a policy
    return both.flatten(1).cpu().numpy().astype(np.float16)


def _pick(tensors: Sequence[Tensor | None], index: list[int]) -> Tensor:
    """Stack ``[G, P, E]`` tensors and repeat them by index, ``[B, G, P, E]``; a view where all rows share one."""
    present = [t for t in tensors if t is not None]
    if len(present) == 1:
        return present[0].unsqueeze(0).expand(len(index), -1, -1, -1)
    return torch.stack(present)[torch.tensor(index, device=present[0].device)]


Item = TypeVar("Item")


def _chunks_of_tokens(items: Sequence[Item], questions: Sequence[EncodedQuestion]) -> Iterator[list[Item]]:
    """Items in order, in chunks of at most `_CHUNK_TOKENS` tokens of their questions."""
    chunk: list[Item] = []
    tokens = 0
    for item, question in zip(items, questions, strict=True):
        if chunk and tokens + question.rows.numel() > _CHUNK_TOKENS:
            yield chunk
            chunk, tokens = [], 0
        chunk.append(item)
        tokens += question.rows.numel()
    if chunk:
        yield chunk


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
