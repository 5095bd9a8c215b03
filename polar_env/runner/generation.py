"""Generation under programs: prompts are executed by the scheduler, then each row decodes under its own program.

Axis letters: ``B`` rows, ``T`` tokens, ``H`` width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from polar_env.errors import ConfigError, NonFiniteError, QuestionTooLongError
from polar_env.llm.frozen import FrozenLLM
from polar_env.program import Program, one_each
from polar_env.runner.decoding import Decoding, Generation, OnText, decode
from polar_env.runner.encoding import Text, shared_beginning
from polar_env.runner.prefixes import beginnings_of, prefix_of
from polar_env.runner.profile import DeviceProfile
from polar_env.runner.schedule import Execution, StateCache
from polar_env.runner.stats import ExecutionStats

__all__ = ["Prompted", "generate", "write"]

Message = Mapping[str, str]
Prompted = str | Sequence[int] | Sequence[Message]
"""What a row may be prompted with: raw text, token ids, or chat messages for the model's chat template."""


def generate(
    llm: FrozenLLM,
    prompts: Sequence[Prompted],
    programs: Program | Sequence[Program],
    *,
    stop: Sequence[str] = (),
    on_text: OnText | None = None,
    **decoding: Any,
) -> list[Generation]:
    """Continue prompts, each row under its own program; what all prompts begin with runs once for each program.

    Args:
        llm: the frozen LLM.
        prompts: for each row raw text, token ids, or chat messages (``{"role": ..., "content": ...}``).
        programs: one program for all rows, or one for each.
        stop: a row ends when its text holds one of these.
        on_text: called with row and new piece of text as it is written.
        decoding: the attributes of `Decoding`: ``max_new_tokens``, ``temperature``, ``top_p``, ``seed``.

    Returns:
        What each row wrote, in order.

    Raises:
        ProgramError: if a program does not fit the model, or there are not as many programs as rows.
        QuestionTooLongError: if a prompt and its new tokens do not fit the model's context.
        ConfigError: for sampling settings out of range, a prompt without tokens, or chat messages where the model has
            no chat template.
        NonFiniteError: if a layer makes NaN or infinite hidden states.
    """
    if isinstance(prompts, str) or isinstance(stop, str) or not all(stop):
        raise ConfigError("prompts and stop are lists: give ['a prompt'] and ['a stop string'], none of them empty.")
    profile = DeviceProfile.of(llm.device)
    rows = [_token_ids(llm, prompt) for prompt in prompts]
    _check_tokens(llm, rows)
    return write(
        llm, _texts(rows), one_each(programs, len(rows)), Decoding(**decoding), [stop] * len(rows),
        execution=lambda: Execution(llm, StateCache(0), ExecutionStats(), profile), profile=profile, on_text=on_text,
    )  # fmt: skip


def write(
    llm: FrozenLLM,
    texts: Sequence[Text],
    programs: Sequence[Program],
    decoding: Decoding,
    stops: Sequence[Sequence[str]],
    *,
    execution: Callable[[], Execution],
    profile: DeviceProfile,
    on_text: OnText | None = None,
) -> list[Generation]:
    """Write behind texts, some rows at a time.

    Args:
        llm: the frozen LLM.
        texts: for each row its prompt, of one row itself.
        programs: for each row its program.
        decoding: how tokens are chosen.
        stops: for each row the strings that end it.
        execution: makes the piece of work that executes the prompts.
        profile: how many rows go together.
        on_text: called with the number of a row and each new piece of its text.

    Raises:
        ProgramError, QuestionTooLongError, NonFiniteError: as `generate`.
    """
    for row, (text, program) in enumerate(zip(texts, programs, strict=True)):
        program.check(llm.depth)
        if text.past + text.length + decoding.max_new_tokens > llm.context_length:
            raise QuestionTooLongError(
                f"row {row}: a prompt of {text.past + text.length} tokens and {decoding.max_new_tokens} new ones "
                f"exceed the model's context of {llm.context_length} tokens; shorten the question or use fewer "
                "examples."
            )
    generations: list[Generation] = []
    for start in range(0, len(texts), profile.decode_rows):
        some = slice(start, start + profile.decode_rows)
        generations += _write_batch(
            llm, texts[some], programs[some], decoding, stops[some], execution(), first_row=start, on_text=on_text
        )
    return generations


def _write_batch(
    llm: FrozenLLM,
    texts: Sequence[Text],
    programs: Sequence[Program],
    decoding: Decoding,
    stops: Sequence[Sequence[str]],
    execution: Execution,
    **rows: Any,
) -> list[Generation]:
    started = time.perf_counter()
    prefixes = [prefix_of(program.layers) for program in programs]
    for text, prefix in zip(texts, prefixes, strict=True):
        execution.want(text, prefix)
        execution.want_slots(text, prefix)
    execution.run()
    last = [execution.hidden[text.id, prefix][0, -1] for text, prefix in zip(texts, prefixes, strict=True)]
    hidden = torch.stack(last)  # [B, H]
    if not hidden.isfinite().all():
        _name_non_finite(llm, texts, programs)
    cache = llm.new_cache(programs)
    lengths = [text.past + text.length for text in texts]
    beginnings = [beginnings_of(prefix) for prefix in prefixes]
    chains = [(*text.contexts, text) for text in texts]
    cache.load(
        lengths, lambda row, position: [execution.slots[text.id, beginnings[row][position]] for text in chains[row]]
    )
    mask = None
    if min(lengths) < max(lengths):
        columns = torch.arange(max(lengths), device=llm.device)
        mask = (columns >= max(lengths) - torch.tensor(lengths, device=llm.device)[:, None]).long()  # [B, T]
    return decode(llm, cache, mask, hidden, decoding, stops, started=started, **rows)


def _name_non_finite(llm: FrozenLLM, texts: Sequence[Text], programs: Sequence[Program]) -> None:
    """Raise NonFiniteError that names position and layer."""
    for text, program in zip(texts, programs, strict=True):
        llm.run(torch.cat([each.rows for each in (*text.contexts, text)], dim=1), program)
    raise NonFiniteError(f"programs {', '.join(map(str, programs))} make NaN or infinite hidden states.")


def _texts(rows: Sequence[Sequence[int]]) -> list[Text]:
    """Prompts as texts: what all of them begin with is one text before the rest; each keeps a token of its own."""
    shared = shared_beginning([row[:-1] for row in rows]) if len(rows) > 1 else ()
    context = Text(torch.tensor([shared]), role="prompt", reused=True) if shared else None
    return [Text(torch.tensor([list(row[len(shared) :])]), context, reused=True) for row in rows]


def _token_ids(llm: FrozenLLM, prompt: Prompted) -> list[int]:
    if isinstance(prompt, Mapping):
        raise ConfigError("a chat is a list of messages, and prompts are a list of chats: give [[{'role': ...}, ...]].")
    if isinstance(prompt, str):
        return [int(token) for token in llm.tokenizer(prompt).input_ids]
    if prompt and isinstance(prompt[0], Mapping):
        if llm.tokenizer.chat_template is None:
            raise ConfigError("this model has no chat template; give the prompt as text.")
        messages: Any = list(prompt)
        text = str(llm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        return [int(token) for token in llm.tokenizer(text, add_special_tokens=False).input_ids]
    return [int(token) for token in prompt]  # type: ignore[arg-type]


def _check_tokens(llm: FrozenLLM, rows: Sequence[Sequence[int]]) -> None:
    """Refuse prompts that are empty, or hold tokens that the model does not have."""
    for row, tokens in enumerate(rows):
        if not tokens:
            raise ConfigError(f"the prompt of row {row} has no tokens; write at least a word.")
        if not 0 <= min(tokens) <= max(tokens) < llm.vocabulary_size:
            raise ConfigError(f"the prompt of row {row} has token ids outside 0 .. {llm.vocabulary_size - 1}.")
