"""Asks and questions as token ids: what many prompts share, what is this ask's own, and where its answers stand.

Letters: ``C`` rows of a text (choices), ``T`` tokens of a row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from polar_env.errors import QuestionTooLongError
from polar_env.questions import Ask, Prompt, Question
from polar_env.runner.stats import Role

__all__ = ["EncodedAsk", "EncodedCandidates", "EncodedQuestion", "Encoder", "Text", "shared_beginning"]


class Text:
    """Rows of tokens that are executed together. Texts with the same tokens behind the same context are one text.

    Args:
        rows: token ids, padded on the right; ``long [C, T]``.
        context: the text of one row that stands before each of them; None where there is none.
        role: the ``prompt`` before many asks, the ``ask`` itself, the ``answer`` behind it, or the ``whole`` of ask and
            answer.
        reused: whether other texts or new tokens may stand behind it, so that its keys and values are kept.
    """

    def __init__(
        self,
        rows: Tensor,
        context: Text | None = None,
        role: Role = "ask",
        reused: bool = False,
    ) -> None:
        self.rows, self.context, self.role, self.reused = rows, context, role, reused
        self.contexts: tuple[Text, ...] = () if context is None else (*context.contexts, context)
        """All texts that stand before the rows, in reading order."""
        self.past = sum(text.length for text in self.contexts)
        """Tokens before the rows."""
        self.length: int = rows.shape[1]
        """Tokens of a row."""
        content = f"{tuple(rows.shape)} {rows.flatten().tolist()} {reused}"
        own = hashlib.blake2b(content.encode(), digest_size=16, key=context.id if context else b"")
        self.id: bytes = own.digest()
        """16 bytes of all its tokens and those before them."""

    @cached_property
    def layout(self) -> tuple[int, ...]:
        """Tokens of each text before the rows: rows of texts with one layout read their contexts alike."""
        return tuple(text.length for text in self.contexts)


@dataclass(frozen=True, eq=False)
class EncodedAsk:
    """An ask's token ids under its prompt.

    Attributes:
        text: one row, the ask behind what its prompt shares with others.
        lead: what stands between the prompt and an answer.
        end: what ends an answer under this prompt.
    """

    text: Text
    lead: str
    end: str

    @cached_property
    def tokens(self) -> Tensor:
        """The whole prompt in one piece, ``long [past + T]``."""
        return torch.cat([text.rows[0] for text in (*self.text.contexts, self.text)])


@dataclass(frozen=True, eq=False)
class EncodedCandidates:
    """Candidate answers behind an ask: an ask's choices, or the gold answer of an open question.

    Attributes:
        ask: the ask's.
        answers: for each of ``C`` candidate answers its token ids, with the end of the answer.
        behind: behind the ask, the ``C`` answers without their last tokens, after which nothing comes; None where
            nothing is left of them.
    """

    ask: EncodedAsk
    answers: tuple[tuple[int, ...], ...]
    behind: Text | None

    @cached_property
    def size(self) -> int:
        """Tokens of the prompt with each of the answers, had they nothing in common."""
        return sum(len(self.ask.tokens) + len(answer) - 1 for answer in self.answers)

    @property
    def texts(self) -> list[Text]:
        """The ask, and what stands behind it."""
        return [self.ask.text, *([] if self.behind is None else [self.behind])]


@dataclass(frozen=True, eq=False)
class EncodedQuestion(EncodedCandidates):
    """One question's token ids.

    Attributes:
        gold: index of the gold candidate.
        whole: ask and answer in one row, behind the same context: one layer call less for whoever never observes the
            ask alone; None where there are several candidates.
    """

    gold: int
    whole: Text | None

    @cached_property
    def digest(self) -> bytes:
        """16 bytes of all that decides a verdict: every token, and which candidate is the gold one."""
        content = json.dumps([self.ask.tokens.tolist(), self.answers, self.gold])
        return hashlib.blake2b(content.encode(), digest_size=16).digest()

    @property
    def gold_row(self) -> Tensor:
        """The prompt and the gold answer without its last token in one piece."""
        return torch.cat([self.ask.tokens, torch.tensor(self.answers[self.gold][:-1], dtype=torch.long)])


class Encoder:
    """Encodes asks and questions under one prompt.

    Args:
        tokenizer: the LLM's.
        prompt: the prompt.
        context_length: most tokens of prompt and answer together.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Prompt, context_length: int) -> None:
        self.tokenizer, self.prompt, self.context_length = tokenizer, prompt, context_length
        # What all asks share and, with a few words more, those that begin as all worked examples do: a function of
        # the prompt alone, so that the states of an ask never depend on which others are asked.
        probes = [Ask(text, equation=text) for text in ("What is 1?", "0 =", "Say")]
        examples = [example.ask for example in prompt.examples]
        shared = {
            shared_beginning([self.prompt_ids(ask) for ask in asks]) for asks in (probes, examples) if len(asks) > 1
        }
        self._contexts = [
            Text(torch.tensor([tokens]), role="prompt", reused=True)
            for tokens in sorted(shared, key=len, reverse=True)
            if tokens
        ]

    def ask(self, ask: Ask) -> EncodedAsk:
        """An ask's token ids.

        Raises:
            QuestionTooLongError: if the prompt exceeds the model's context.
        """
        rendered = self.prompt.render(self.tokenizer, ask)
        tokens = self._tokens(rendered.prompt)
        self._require_room(ask, len(tokens))
        contexts = (each for each in self._contexts if _begins_with(tokens, each.rows[0].tolist()))
        context = next(contexts, None)
        own = tokens[context.length if context else 0 :]
        return EncodedAsk(Text(torch.tensor([own]), context, reused=True), rendered.lead, rendered.end)

    def candidates(self, ask: Ask, encoded: EncodedAsk, candidates: Sequence[str]) -> EncodedCandidates:
        """Token ids of candidate answers to an ask, given the ask's.

        Raises:
            QuestionTooLongError: if prompt and answer exceed the model's context.
        """
        answers = self._answers(ask, encoded, candidates)
        self._require_room(ask, len(encoded.tokens) + max(map(len, answers)))
        rows = [torch.tensor(answer[:-1], dtype=torch.long) for answer in answers]
        padded = pad_sequence(rows, batch_first=True)  # [C, T]
        behind = Text(padded, encoded.text, role="answer") if padded.shape[1] else None
        return EncodedCandidates(encoded, answers, behind)

    def question(self, question: Question, ask: EncodedAsk) -> EncodedQuestion:
        """A question's token ids, given its ask's.

        Raises:
            QuestionTooLongError: if prompt and answer exceed the model's context.
        """
        each = self.candidates(question.ask, ask, question.choices or (question.answer,))
        whole = None
        if len(each.answers) == 1:
            row = torch.tensor([[*ask.text.rows[0].tolist(), *each.answers[0][:-1]]])
            whole = Text(row, ask.text.context, role="whole")
        return EncodedQuestion(ask, each.answers, each.behind, question.gold, whole)

    def prompt_ids(self, ask: Ask) -> list[int]:
        """Token ids of the whole prompt of an ask."""
        return self._tokens(self.prompt.render(self.tokenizer, ask).prompt)

    def _answers(self, ask: Ask, encoded: EncodedAsk, candidates: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """The candidate answers' token ids, each with the end of the answer."""
        text, prompt = self.prompt.render(self.tokenizer, ask).prompt, encoded.tokens.tolist()
        answers = []
        for candidate in candidates:
            tail = encoded.lead + candidate + encoded.end
            together = self._tokens(text + tail)
            # Most tokenizers split at the boundary; one that merges across it gets the answer's own tokens.
            splits = together[: len(prompt)] == prompt
            alone = self.tokenizer(tail, add_special_tokens=False).input_ids
            answers.append(tuple(together[len(prompt) :] if splits else alone))
        return tuple(answers)

    def _tokens(self, text: str) -> list[int]:
        # The chat template writes its own special tokens into the text.
        ids = self.tokenizer(text, add_special_tokens=not self.prompt.is_chat).input_ids
        return [int(i) for i in ids]

    def _require_room(self, ask: Ask, tokens: int) -> None:
        if tokens > self.context_length:
            raise QuestionTooLongError(
                f"question {ask.id} ({ask.text[:60]!r}) needs {tokens} tokens with its prompt '{self.prompt.name}'; "
                f"the model's context has {self.context_length}. Leave it out or use fewer examples."
            )


def _begins_with(tokens: list[int], beginning: list[int]) -> bool:
    """Whether at least one token follows a beginning: there must be something to execute."""
    return len(tokens) > len(beginning) and tokens[: len(beginning)] == beginning


def shared_beginning(sequences: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """The tokens that all sequences begin with."""
    shared = []
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        shared.append(tokens[0])
    return tuple(shared)
