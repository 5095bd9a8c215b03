"""Generation under programs: a program for each row of a batch, in prefill and in decode.

Axis letters: ``B`` rows, ``P`` tokens that all prompts share, ``T`` tokens, ``V`` vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from polar_env.errors import ConfigError, QuestionTooLongError
from polar_env.program import Program, one_each

if TYPE_CHECKING:
    from polar_env.llm.cache import ProgramCache
    from polar_env.llm.frozen import FrozenLLM

__all__ = ["Generation", "Prompted", "generate"]

Message = Mapping[str, str]
Prompted = str | Sequence[int] | Sequence[Message]
"""What a row may be asked with: raw text, token ids, or chat messages for the model's chat template."""


@dataclass(frozen=True)
class Generation:
    """What one row wrote.

    Attributes:
        text: the text, without special tokens and without the stop string that ended it.
        tokens: all token ids made, with the one that ended the text.
        log_probs: each token's log-probability in nats under the model, before temperature and top-p.
        ended_by: an end-of-text token, a stop string, or the bound on new tokens.
        layers: layers executed for this row: its program's once for the prompt and once for each token but the last.
        prefill_seconds: time until the first token, of the whole batch.
        decode_seconds: time from then until this row's last token.
    """

    text: str
    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    ended_by: Literal["end", "stop", "length"]
    layers: int
    prefill_seconds: float
    decode_seconds: float


def generate(
    llm: FrozenLLM,
    questions: Sequence[Prompted],
    programs: Program | Sequence[Program],
    *,
    max_new_tokens: int = 32,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: Sequence[str] = (),
    on_text: Callable[[int, str], None] | None = None,
) -> list[Generation]:
    """Continue prompts, each row under its own program, with a KV cache slot for each row and step.

    Args:
        llm: the frozen LLM.
        questions: for each row raw text, token ids, or chat messages (``{"role": ..., "content": ...}``).
        programs: one program for all rows, or one for each.
        max_new_tokens: most tokens that a row makes.
        temperature: 0 is greedy; otherwise logits are divided by it.
        top_p: tokens are sampled from the smallest set that holds this share of the probability.
        seed: row ``i`` samples with ``seed + i``, whatever else is in the batch.
        stop: a row ends when its text holds one of these.
        on_text: called with row and new piece of text as it is written; a piece that may yet become a stop string is
            held back.

    Returns:
        What each row wrote, in order.

    Raises:
        ProgramError: if a program does not fit the model, or there are not as many programs as rows.
        QuestionTooLongError: if a prompt and its new tokens do not fit the model's context.
        ConfigError: for sampling settings out of range, a prompt without tokens, or chat messages where the model has
            no chat template.
        NonFiniteError: if a layer makes NaN or infinite hidden states.
    """
    if isinstance(questions, str) or isinstance(stop, str) or not all(stop):
        raise ConfigError(
            "questions and stop are lists: give ['a question'] and ['a stop string'], none of them empty."
        )
    if max_new_tokens < 1 or not (temperature == 0 or temperature >= 1e-3) or not 0 < top_p <= 1:
        raise ConfigError(
            f"max_new_tokens={max_new_tokens}, temperature={temperature}, top_p={top_p}: expected at least 1 token, a "
            "temperature of 0 or at least 0.001, and 0 < top_p <= 1."
        )
    programs = one_each(programs, len(questions))
    if not questions:
        return []
    prompts = [_token_ids(llm, question) for question in questions]
    _check_prompts(llm, prompts, max_new_tokens)
    pick = _Sampler(temperature, top_p, seed)
    started = time.perf_counter()
    cache, mask, hidden = _prefill(llm, prompts, programs)
    rows = [_Row(llm, i, stop, max_new_tokens, on_text) for i in range(len(prompts))]
    live = rows
    prefilled = 0.0
    while True:
        tokens, log_probs = pick(llm.read_out(hidden), [row.number for row in live])
        prefilled = prefilled or time.perf_counter()
        for row, token, log_prob in zip(live, tokens, log_probs, strict=True):
            row.add(token, log_prob)
        unfinished = [i for i, row in enumerate(live) if row.ended_by is None]
        if not unfinished:
            break
        if len(unfinished) < len(live):
            cache.select(unfinished)
            live, tokens = [live[i] for i in unfinished], [tokens[i] for i in unfinished]
            mask = None if mask is None else mask[unfinished]
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        hidden = llm.run(torch.tensor(tokens)[:, None], cache.programs, cache, mask)[:, -1]  # [B, H]
    return [row.result(len(p), started, prefilled) for row, p in zip(rows, programs, strict=True)]


def _token_ids(llm: FrozenLLM, question: Prompted) -> list[int]:
    if isinstance(question, Mapping):
        raise ConfigError(
            "a chat is a list of messages, and questions are a list of chats: give [[{'role': ...}, ...]]."
        )
    if isinstance(question, str):
        return [int(token) for token in llm.tokenizer(question).input_ids]
    if question and isinstance(question[0], Mapping):
        if llm.tokenizer.chat_template is None:
            raise ConfigError("this model has no chat template; give the prompt as text.")
        messages: Any = list(question)
        text = str(llm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        return [int(token) for token in llm.tokenizer(text, add_special_tokens=False).input_ids]
    return [int(token) for token in question]  # type: ignore[arg-type]


def _check_prompts(llm: FrozenLLM, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    """Refuse prompts that are empty, hold tokens that the model does not have, or leave no room for new ones."""
    for row, prompt in enumerate(prompts):
        if not prompt:
            raise ConfigError(f"the prompt of row {row} has no tokens; write at least a word.")
        if not 0 <= min(prompt) <= max(prompt) < llm.vocabulary_size:
            raise ConfigError(f"the prompt of row {row} has token ids outside 0 .. {llm.vocabulary_size - 1}.")
        if len(prompt) + max_new_tokens > llm.context_length:
            raise QuestionTooLongError(
                f"row {row}: a prompt of {len(prompt)} tokens and {max_new_tokens} new ones exceed the model's context "
                f"of {llm.context_length} tokens; shorten the question or use fewer examples."
            )


def _prefill(
    llm: FrozenLLM, prompts: Sequence[Sequence[int]], programs: Sequence[Program]
) -> tuple[ProgramCache, Tensor | None, Tensor]:
    """Run the prompts; what they all begin with runs once for each distinct program.

    Returns:
        The cache; the attention mask ``[B, T]``, None without padding; the hidden states of the last tokens ``[B, H]``.
    """
    distinct = list(dict.fromkeys(programs))
    shared = _shared_length(prompts) if len(distinct) < len(prompts) else 0
    longest = max(map(len, prompts))
    padded = min(map(len, prompts)) < longest
    if padded and not llm.allows_gaps:
        shared = 0  # padding will stand between the shared part and the rest
    cache = llm.new_cache(distinct if shared else programs)
    if shared:
        llm.run(torch.tensor([list(prompts[0][:shared])] * len(distinct)), distinct, cache)
        cache.select([distinct.index(program) for program in programs])
    ids = torch.zeros(len(prompts), longest - shared, dtype=torch.long)
    mask = torch.ones(len(prompts), longest, dtype=torch.long, device=llm.device)
    for row, prompt in enumerate(prompts):  # padding on the left: every row's next token stands in the same column
        padding = longest - len(prompt)
        ids[row, padding:] = torch.tensor(prompt[shared:])
        mask[row, shared : shared + padding] = 0
    hidden = llm.run(ids, cache.programs, cache, mask if padded else None)
    return cache, mask if padded else None, hidden[:, -1]


def _shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; every prompt keeps at least one token of its own."""
    shared = 0
    for tokens in zip(*(prompt[:-1] for prompt in prompts), strict=False):
        if len(set(tokens)) > 1:
            break
        shared += 1
    return shared


class _Sampler:
    """Chooses the next token of each row, with a random stream of its own for each row."""

    def __init__(self, temperature: float, top_p: float, seed: int) -> None:
        self.greedy, self.seed = temperature == 0, seed
        self.streams: dict[int, torch.Generator] = {}
        self.warp = LogitsProcessorList()
        if not self.greedy:
            self.warp.append(TemperatureLogitsWarper(float(temperature)))
        if not self.greedy and top_p < 1:
            self.warp.append(TopPLogitsWarper(top_p))

    def __call__(self, logits: Tensor, rows: Sequence[int]) -> tuple[list[int], list[float]]:
        """Tokens and their log-probabilities under the model for logits ``[B, V]`` of numbered rows."""
        logits = logits.float()
        if self.greedy:
            tokens = logits.argmax(-1)  # [B]
        else:
            # On the CPU, so that a seed means the same on every device.
            written: Any = logits.new_zeros(len(rows), 0, dtype=torch.long)  # neither warper looks at it
            chances = self.warp(written, logits).softmax(-1).cpu()  # [B, V]
            drawn = [torch.multinomial(c, 1, generator=self._stream(r)) for c, r in zip(chances, rows, strict=True)]
            tokens = torch.cat(drawn).to(logits.device)
        chosen = logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)  # [B]
        return tokens.tolist(), chosen.tolist()

    def _stream(self, row: int) -> torch.Generator:
        if row not in self.streams:
            self.streams[row] = torch.Generator().manual_seed(self.seed + row)
        return self.streams[row]


@dataclass
class _Row:
    """One row while it writes."""

    llm: FrozenLLM
    number: int
    stop: Sequence[str]
    max_new_tokens: int
    on_text: Callable[[int, str], None] | None
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    ended_by: Literal["end", "stop", "length"] | None = None
    shown: str = ""
    finished_at: float = 0.0

    def add(self, token: int, log_prob: float) -> None:
        """Take in the next token; may end the row."""
        self.tokens.append(token)
        self.log_probs.append(log_prob)
        if token in self.llm.end_tokens:
            self.ended_by = "end"
        elif self.stop and self._holds_stop():
            self.ended_by = "stop"
        elif len(self.tokens) == self.max_new_tokens:
            self.ended_by = "length"
        if self.ended_by is not None:
            self.finished_at = time.perf_counter()
        if self.on_text is not None:
            self._show()

    def _holds_stop(self) -> bool:
        """Whether the text holds a stop string; one may be a special token, which `text` leaves out."""
        whole, shown = (self.llm.tokenizer.decode(self.tokens, skip_special_tokens=skip) for skip in (False, True))
        return any(s in whole or s in shown for s in self.stop)

    def _show(self) -> None:
        """Hand out what is certain: no half character, and nothing that may yet become a stop string."""
        text = self.text()
        if self.ended_by is None:
            text = text.rstrip("\N{REPLACEMENT CHARACTER}")
            held_back = max((n for s in self.stop for n in range(1, len(s)) if text.endswith(s[:n])), default=0)
            text = text[: len(text) - held_back]
        if len(text) > len(self.shown) and self.on_text is not None:
            self.on_text(self.number, text[len(self.shown) :])
            self.shown = text

    def text(self) -> str:
        """The text so far, up to the first stop string."""
        text = str(self.llm.tokenizer.decode(self.tokens, skip_special_tokens=True))
        return text[: min((at for s in self.stop if (at := text.find(s)) >= 0), default=len(text))]

    def result(self, steps: int, started: float, prefilled: float) -> Generation:
        """What the row wrote, under a program of that many steps."""
        assert self.ended_by is not None
        return Generation(
            text=self.text(),
            tokens=tuple(self.tokens),
            log_probs=tuple(self.log_probs),
            ended_by=self.ended_by,
            layers=steps * len(self.tokens),
            prefill_seconds=prefilled - started,
            decode_seconds=self.finished_at - prefilled,
        )
