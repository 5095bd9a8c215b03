"""Decoding: from the states of prompts, row by row under its own program, token by token.

Axis letters: ``B`` rows, ``V`` vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

from polar_env.errors import ConfigError
from polar_env.llm.cache import ProgramCache
from polar_env.llm.frozen import FrozenLLM

__all__ = ["Decoding", "Generation", "OnText", "decode"]

OnText = Callable[[int, str], None]
"""Called with the number of a row and each new piece of its text."""


@dataclass(frozen=True)
class Generation:
    """What one row wrote.

    Attributes:
        text: the text, without special tokens and without the stop string that ended it.
        tokens: all token ids made, with the one that ended the text.
        log_probs: each token's log-probability in nats under the model, before temperature and top-p.
        ended_by: an end-of-text token, a stop string, or the bound on new tokens.
        layers: layers of this row's program, once for the prompt and once for each token but the last.
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


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen, and when a row ends.

    Attributes:
        max_new_tokens: most tokens that a row makes.
        temperature: 0 is greedy; otherwise logits are divided by it.
        top_p: tokens are sampled from the smallest set that holds this share of the probability.
        seed: row ``i`` samples with ``seed + i``, whatever else is in the batch; or a seed for each row.

    Raises:
        ConfigError: for settings out of range.
    """

    max_new_tokens: int = 32
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | tuple[int, ...] = 0

    def __post_init__(self) -> None:
        fits = self.max_new_tokens >= 1 and (self.temperature == 0 or self.temperature >= 1e-3) and 0 < self.top_p <= 1
        if not fits:
            raise ConfigError(
                f"max_new_tokens={self.max_new_tokens}, temperature={self.temperature}, top_p={self.top_p}: expected "
                "at least 1 token, a temperature of 0 or at least 0.001, and 0 < top_p <= 1."
            )


def decode(
    llm: FrozenLLM,
    cache: ProgramCache,
    mask: Tensor | None,
    hidden: Tensor,
    decoding: Decoding,
    stops: Sequence[Sequence[str]],
    *,
    started: float,
    first_row: int = 0,
    on_text: OnText | None = None,
) -> list[Generation]:
    """Write texts behind prompts that have been executed.

    Args:
        llm: the frozen LLM.
        cache: holds the prompts, a program for each row.
        mask: ``[B, past]``, 1 = token, 0 = padding on the left; None without padding.
        hidden: hidden states of the prompts' last tokens, ``[B, H]``.
        decoding: how tokens are chosen.
        stops: for each row the strings that end it.
        started: when the prompts' execution began, by ``time.perf_counter``.
        first_row: number of the first row, for sampling and ``on_text``.
        on_text: see `OnText`; a piece that may yet become a stop string is held back.

    Returns:
        What each row wrote, in order.

    Raises:
        NonFiniteError: if a layer makes NaN or infinite hidden states.
    """
    pick = _Sampler(decoding)
    sizes = [len(program) for program in cache.programs]
    rows = [_Row(llm, first_row + i, stop, decoding.max_new_tokens, on_text) for i, stop in enumerate(stops)]
    live = rows
    prefilled = 0.0
    while True:
        tokens, log_probs = pick(llm.read_out(hidden), [row.number for row in live])
        prefilled = prefilled or time.perf_counter()
        for row, token, log_prob in zip(live, tokens, log_probs, strict=True):
            row.add(token, log_prob)
        unfinished = [i for i, row in enumerate(live) if row.ended_by is None]
        if not unfinished:
            return [row.result(size, started, prefilled) for row, size in zip(rows, sizes, strict=True)]
        if len(unfinished) < len(live):
            cache.select(unfinished)
            live, tokens = [live[i] for i in unfinished], [tokens[i] for i in unfinished]
            mask = None if mask is None else mask[unfinished]
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
        hidden = llm.run(torch.tensor(tokens)[:, None], cache.programs, cache, mask)[:, -1]  # [B, H]


class _Sampler:
    """Chooses the next token of each row, with a random stream of its own for each row."""

    def __init__(self, decoding: Decoding) -> None:
        self.greedy, self.seed = decoding.temperature == 0, decoding.seed
        self.streams: dict[int, torch.Generator] = {}
        self.warp = LogitsProcessorList()
        if not self.greedy:
            self.warp.append(TemperatureLogitsWarper(float(decoding.temperature)))
        if not self.greedy and decoding.top_p < 1:
            self.warp.append(TopPLogitsWarper(decoding.top_p))

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
            seed = self.seed + row if isinstance(self.seed, int) else self.seed[row]
            self.streams[row] = torch.Generator().manual_seed(seed)
        return self.streams[row]


@dataclass
class _Row:
    """One row while it writes."""

    llm: FrozenLLM
    number: int
    stop: Sequence[str]
    max_new_tokens: int
    on_text: OnText | None
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

    def result(self, size: int, started: float, prefilled: float) -> Generation:
        """What the row wrote, under a program of that many layers."""
        assert self.ended_by is not None
        return Generation(
            text=self.text(),
            tokens=tuple(self.tokens),
            log_probs=tuple(self.log_probs),
            ended_by=self.ended_by,
            layers=size * len(self.tokens),
            prefill_seconds=prefilled - started,
            decode_seconds=self.finished_at - prefilled,
        )
