"""Questions as token ids: what all prompts share, what is this question's own, and where its answers stand."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

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
    """

    id: str
    rows: Tensor
    prefix: Text | None = None

    @property
    def past(self) -> int:
        """Tokens before the rows."""
        return 0 if self.prefix is None else self.prefix.rows.shape[1]

    @property
    def order(self) -> tuple[str, int]:
        """Sorts texts by their prefix, then by length: neighbours fit into one batch."""
        return "" if self.prefix is None else self.prefix.id, self.rows.shape[1]


@dataclass(frozen=True, eq=False)
class EncodedQuestion(Text):
    """One question's token ids: for each of ``C`` candidate answers a row of the prompt behind the prefix, then the
    answer without its last token, which nothing follows.

    Attributes:
        prompt_length: tokens of a row that belong to the prompt.
        answers: for each candidate, its token ids with the end of the answer.
        gold: index of the gold candidate.
    """

    prompt_length: int = 0
    answers: tuple[tuple[int, ...], ...] = ()
    gold: int = 0

    @cached_property
    def digest(self) -> bytes:
        """16 bytes over all that decides a verdict: every token, and which candidate is the gold one."""
        prompt = self.whole_row[: self.past + self.prompt_length].tolist()
        content = json.dumps([prompt, self.answers, self.gold])
        return hashlib.blake2b(content.encode(), digest_size=16).digest()

    @property
    def whole_row(self) -> Tensor:
        """Prefix, prompt and gold answer in one piece, ``long [past + T]``."""
        row = self.rows[self.gold]
        return row if self.prefix is None else torch.cat([self.prefix.rows[0], row])

    def answer_slice(self, candidate: int) -> slice:
        """The positions of a row whose next token is a token of the answer."""
        start = self.prompt_length - 1
        return slice(start, start + len(self.answers[candidate]))


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
        shared = _common_prefix([self.prompt_ids(probe, probe) for probe in ("What is 1?", "0 =", "Say")])
        self._prefix = Text("prompt", torch.tensor([shared])) if shared else None

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
            own = self.tokenizer(tail, add_special_tokens=False).input_ids
            answers.append(tuple(whole[len(prompt) :] if joined else own))
        longest = len(prompt) + max(map(len, answers))
        if longest > self.context_length:
            raise QuestionTooLongError(
                f"question {question.id} ({question.text[:60]!r}) needs {longest} tokens with its prompt "
                f"'{self.prompt.name}'; the model's context has {self.context_length}. "
                "Leave it out or use fewer examples."
            )
        prefix = self._prefix
        if prefix is not None and prompt[: prefix.rows.shape[1]] != prefix.rows[0].tolist():
            prefix = None
        own_prompt = prompt if prefix is None else prompt[prefix.rows.shape[1] :]
        length = max(len(own_prompt) + len(answer) - 1 for answer in answers)
        rows = torch.zeros(len(answers), length, dtype=torch.long)
        for row, answer in zip(rows, answers, strict=True):
            row[: len(own_prompt) + len(answer) - 1] = torch.tensor([*own_prompt, *answer[:-1]])
        # Not the question's id alone, which ignores capitals and blanks: they are other tokens.
        return EncodedQuestion(
            question.text + question.id, rows, prefix, len(own_prompt), tuple(answers), question.gold
        )


def _common_prefix(sequences: list[list[int]]) -> tuple[int, ...]:
    shared = []
    for tokens in zip(*sequences, strict=False):
        if len(set(tokens)) > 1:
            break
        shared.append(tokens[0])
    return tuple(shared)
