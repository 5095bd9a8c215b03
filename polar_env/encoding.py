"""Questions as token ids: what all prompts share, what is this question's own, and where its answers stand."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from polar_env.errors import QuestionTooLongError
from polar_env.questions import Prompt, Question

if TYPE_CHECKING:
    from polar_env.llm.frozen import FrozenLLM

__all__ = ["EncodedQuestion", "Encoder", "Text"]


@dataclass(frozen=True, eq=False)
class Text:
    """Rows of tokens that are executed together.

    Attributes:
        id: names it.
        rows: token ids, padded on the right; ``long [C, T]``.
        prefix: the text of one row that stands before each of them; None where there is none.
        role: the few-shot ``prompt``, a ``question`` or its ``choices``.
        precedes: whether other texts stand behind it, so that its keys and values will be wanted.
    """

    id: str
    rows: Tensor
    prefix: Text | None = None
    role: Literal["prompt", "question", "choices"] = "question"
    precedes: bool = False

    @cached_property
    def before(self) -> tuple[Text, ...]:
        """All texts that stand before the rows, in reading order."""
        return () if self.prefix is None else (*self.prefix.before, self.prefix)

    @cached_property
    def past(self) -> int:
        """Tokens before the rows."""
        return sum(text.rows.shape[1] for text in self.before)

    @cached_property
    def shape(self) -> tuple[tuple[int, ...], int]:
        """Tokens of each text before the rows, and of a row: texts that differ in the last alone fit into one batch."""
        return tuple(text.rows.shape[1] for text in self.before), self.rows.shape[1]


@dataclass(frozen=True, eq=False)
class EncodedQuestion:
    """One question's token ids.

    Attributes:
        id: names it.
        text: one row, the prompt behind the few-shot prefix. Where there is one answer, it follows without its last
            token, after which nothing comes.
        prompt_length: tokens of the row that belong to the prompt.
        answers: for each of ``C`` candidate answers its token ids, with the end of the answer.
        gold: index of the gold candidate.
        choices: behind the text, the ``C`` answers without their last tokens; None where nothing is left of them, or
            there is only one answer.
    """

    id: str
    text: Text
    prompt_length: int
    answers: tuple[tuple[int, ...], ...]
    gold: int
    choices: Text | None = None

    @cached_property
    def digest(self) -> bytes:
        """16 bytes over all that decides a verdict: every token, and which candidate is the gold one."""
        content = json.dumps([self.prompt_row.tolist(), self.answers, self.gold])
        return hashlib.blake2b(content.encode(), digest_size=16).digest()

    @cached_property
    def tokens(self) -> int:
        """Tokens of the prompt with each of the answers, had they nothing in common."""
        prompt = self.text.past + self.prompt_length
        return sum(prompt + len(answer) - 1 for answer in self.answers)

    @property
    def prompt_row(self) -> Tensor:
        """Prefix and prompt in one piece, ``long [past + prompt_length]``."""
        return torch.cat([*(text.rows[0] for text in self.text.before), self.text.rows[0, : self.prompt_length]])

    @property
    def whole_row(self) -> Tensor:
        """The prompt and the gold answer without its last token in one piece."""
        return torch.cat([self.prompt_row, torch.tensor(self.answers[self.gold][:-1], dtype=torch.long)])


class Encoder:
    """Encodes questions under one prompt, once each.

    Args:
        llm: gives the tokenizer and the context length.
        prompt: the prompt.
    """

    def __init__(self, llm: FrozenLLM, prompt: Prompt) -> None:
        self.tokenizer, self.context_length = llm.tokenizer, llm.context_length
        self.prompt = prompt
        self._encoded: dict[Question, EncodedQuestion] = {}
        # What all questions share and, with a few words more, those that begin as all examples do.
        anything = [self.prompt_ids(probe, probe) for probe in ("What is 1?", "0 =", "Say")]
        examples = [self.prompt_ids(example.question, example.bare) for example in prompt.examples]
        shared = {_common_prefix(prompts) for prompts in (anything, examples) if len(prompts) > 1}
        self._prefixes = [
            Text(f"prompt of {len(tokens)} tokens", torch.tensor([tokens]), role="prompt", precedes=True)
            for tokens in sorted(shared, key=len, reverse=True)
            if tokens
        ]

    def __call__(self, question: Question) -> EncodedQuestion:
        """The question's token ids.

        Raises:
            QuestionTooLongError: if prompt and answer exceed the model's context.
        """
        found = self._encoded.get(question)
        if found is None:
            found = self._encoded[question] = self._encode(question)
        return found

    def prompt_ids(self, text: str, bare: str | None = None) -> list[int]:
        """Token ids of the whole prompt that asks ``text`` (``bare`` as an equation)."""
        return self._tokens(self.prompt.render(self.tokenizer, text, bare).prompt)

    def _tokens(self, text: str) -> list[int]:
        # The chat template writes its own special tokens into the text.
        ids = self.tokenizer(text, add_special_tokens=not self.prompt.is_chat).input_ids
        return [int(i) for i in ids]

    def _encode(self, question: Question) -> EncodedQuestion:
        rendered = self.prompt.render(self.tokenizer, question.text, question.bare)
        prompt = self._tokens(rendered.prompt)
        answers = []
        for candidate in question.choices or (question.answer,):
            tail = rendered.lead + candidate + rendered.end
            whole = self._tokens(rendered.prompt + tail)
            # Most tokenizers split at the boundary; one that merges across it gets the answer's own tokens.
            joined = whole[: len(prompt)] == prompt
            alone = self.tokenizer(tail, add_special_tokens=False).input_ids
            answers.append(tuple(whole[len(prompt) :] if joined else alone))
        longest = len(prompt) + max(map(len, answers))
        if longest > self.context_length:
            raise QuestionTooLongError(
                f"question {question.id} ({question.text[:60]!r}) needs {longest} tokens with its prompt "
                f"'{self.prompt.name}'; the model's context has {self.context_length}. "
                "Leave it out or use fewer examples."
            )
        prefix = next((each for each in self._prefixes if _begins_with(prompt, each.rows[0].tolist())), None)
        own = prompt if prefix is None else prompt[prefix.rows.shape[1] :]
        # Not the question's id alone, which ignores capitals and blanks: they are other tokens.
        name = question.text + question.id
        if len(answers) == 1:
            text = Text(name, torch.tensor([[*own, *answers[0][:-1]]]), prefix)
            return EncodedQuestion(name, text, len(own), tuple(answers), question.gold)
        rows = [torch.tensor(answer[:-1], dtype=torch.long) for answer in answers]
        padded = pad_sequence(rows, batch_first=True)  # [C, T]
        several = padded.shape[1] > 0
        text = Text(name, torch.tensor([own]), prefix, precedes=several)
        choices = Text(f"choices of {name}", padded, text, role="choices") if several else None
        return EncodedQuestion(name, text, len(own), tuple(answers), question.gold, choices)


def _begins_with(tokens: list[int], beginning: list[int]) -> bool:
    """Whether at least one token follows a beginning: there must be something to execute."""
    return len(tokens) > len(beginning) and tokens[: len(beginning)] == beginning


def _common_prefix(sequences: list[list[int]]) -> tuple[int, ...]:
    shared = []
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        shared.append(tokens[0])
    return tuple(shared)
