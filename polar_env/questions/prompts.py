"""Prompts as data: a style, and the worked examples that stand before the question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml
from pydantic import Field, ValidationError

from polar_env.config import Config
from polar_env.errors import ConfigError, UnknownNameError
from polar_env.questions.ask import Ask
from polar_env.questions.question import Question
from polar_env.questions.twins import have_twins

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "STYLES",
    "Example",
    "Prompt",
    "Prompts",
    "RenderedPrompt",
    "make_prompt",
    "make_prompts",
    "read_prompts",
    "without_examples",
    "write_prompts",
]

Style = Literal["qa", "bare", "chat", "restate"]
STYLES: tuple[Style, ...] = ("qa", "bare", "chat", "restate")


class Example(Config):
    """One worked example: a question, its answer, and the question as an equation where it has one."""

    question: str
    answer: str
    equation: str | None = None
    choices: tuple[str, ...] = ()
    """The choices that the question had; no prompt shows them, and a twin is known by them."""

    @property
    def ask(self) -> Ask:
        """The question as it is asked."""
        return Ask(self.question, equation=self.equation, choices=self.choices)


@dataclass(frozen=True)
class RenderedPrompt:
    """The text of one prompt.

    Attributes:
        prompt: everything before the answer.
        lead: what stands between the prompt and the answer (a blank in the plain styles).
        end: what a finished answer is followed by; generation stops there.
    """

    prompt: str
    lead: str
    end: str


class Prompt(Config):
    """A prompt: a style and its worked examples.

    Styles: ``qa`` (Question/Answer lines), ``bare`` (the equation alone, to be continued), ``chat`` (the model's chat
    template), ``restate`` (the chat template, the assistant's turn opening with the equation: "4 + 3 = 7").
    A question that has no equation is asked in words under every style.
    """

    style: Style
    examples: tuple[Example, ...] = ()
    max_new_tokens: int = Field(default=32, ge=1)
    """Most tokens that an answer to it may have."""

    @property
    def name(self) -> str:
        """Short name, e.g. ``chat-6`` for the chat template with six examples."""
        return f"{self.style}-{len(self.examples)}"

    @cached_property
    def digest(self) -> str:
        """16 hex digits of style and examples: equal for equal prompts, and cheaper to compare than these."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def is_chat(self) -> bool:
        """Whether the prompt goes through the model's chat template."""
        return self.style in ("chat", "restate")

    def render(self, tokenizer: PreTrainedTokenizerBase, ask: Ask) -> RenderedPrompt:
        """The prompt that puts an ask to the LLM.

        Args:
            tokenizer: gives the chat template.
            ask: the question; its equation is continued where the style says so.

        Raises:
            ConfigError: for a chat style where the tokenizer has no chat template.
        """
        if self.is_chat:
            return self._render_chat(tokenizer, ask)
        if self.style == "qa":
            lines = [f"Question: {e.question}\nAnswer: {e.answer}\n" for e in self.examples]
            return RenderedPrompt("".join(lines) + f"Question: {ask.text}\nAnswer:", " ", "\n")
        lines = [f"{e.equation or e.question} {e.answer}\n" for e in self.examples]
        return RenderedPrompt("".join(lines) + (ask.equation or ask.text), " ", "\n")

    def _render_chat(self, tokenizer: PreTrainedTokenizerBase, ask: Ask) -> RenderedPrompt:
        if tokenizer.chat_template is None:
            raise ConfigError("this model has no chat template; choose the prompt style 'qa' or 'bare'.")
        restate = self.style == "restate"
        messages: list[dict[str, str]] = []
        for example in self.examples:
            lead = f"{example.equation} " if restate and example.equation else ""
            messages += [
                {"role": "user", "content": example.question},
                {"role": "assistant", "content": lead + example.answer},
            ]
        messages.append({"role": "user", "content": ask.text})
        prompt = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        # How a turn ends is the template's own business: read it off a finished turn.
        finished = [*messages, {"role": "assistant", "content": "0"}]
        whole = str(tokenizer.apply_chat_template(finished, tokenize=False))
        tail = whole[len(prompt) + 1 :] if whole.startswith(prompt) else ""
        end = tail.split("\n")[0] or str(tokenizer.eos_token)
        if restate and ask.equation:
            return RenderedPrompt(prompt + ask.equation, " ", end)
        return RenderedPrompt(prompt, "", end)


class Prompts(Config):
    """Which prompt each task is asked under."""

    default: Prompt
    """The prompt of every task that has none of its own."""
    by_task: dict[str, Prompt] = Field(default={})
    """Prompts of single tasks."""

    @classmethod
    def for_all(cls, prompts: Prompt | Prompts) -> Prompts:
        """The same prompt for all tasks, from one prompt; prompts stay what they are."""
        return prompts if isinstance(prompts, Prompts) else cls(default=prompts)

    def __getitem__(self, task: str) -> Prompt:
        return self.by_task.get(task, self.default)

    def with_lengths(self, answer_tokens: Mapping[str, int]) -> Prompts:
        """The same prompts, with the most tokens that an answer of some tasks may have."""
        own = {t: self[t].model_copy(update={"max_new_tokens": most}) for t, most in answer_tokens.items()}
        return Prompts(default=self.default, by_task=self.by_task | own)

    @property
    def name(self) -> str:
        """Short name, e.g. ``chat-6``, or ``chat-6, words: qa-2`` where tasks have prompts of their own."""
        own = (f"{task}: {p.name}" for task, p in sorted(self.by_task.items()) if p.name != self.default.name)
        return ", ".join([self.default.name, *own])

    @property
    def examples(self) -> tuple[Example, ...]:
        """The worked examples of all prompts."""
        return tuple(example for prompt in (self.default, *self.by_task.values()) for example in prompt.examples)


def make_prompt(name: str, pool: Sequence[Question]) -> Prompt:
    """A prompt by its short name, its examples taken from ``pool``.

    Args:
        name: ``STYLE-N``, e.g. ``"restate-6"``, ``"qa-0"``.
        pool: train questions; the examples go round its tasks in turn, in order.

    Raises:
        UnknownNameError: for a style that does not exist.
        ConfigError: for a name of another form, or a pool smaller than N.
    """
    style, _, count = name.partition("-")
    if style not in STYLES:
        raise UnknownNameError("prompt", name, [f"{s}-6" for s in STYLES], "Or give a prompt file (.yaml).")
    if not count.isdigit():
        raise ConfigError(f"prompt '{name}' lacks the number of examples; write '{style}-0' or '{style}-6'.")
    chosen = examples_from(pool, int(count))
    examples = tuple(
        Example(question=q.text, answer=q.answer, equation=q.ask.equation, choices=q.choices) for q in chosen
    )
    return Prompt(style=style, examples=examples)


def make_prompts(name: str, pool: Sequence[Question], *, per_task: bool = False) -> Prompts:
    """Prompts by a short name: one for all tasks, or one for each with worked examples of its own.

    Args:
        name: see `make_prompt`.
        pool: train questions.
        per_task: a prompt for each task of the pool.

    Raises:
        UnknownNameError, ConfigError: as `make_prompt`; the task is named.
    """
    default = make_prompt(name, pool)
    if not per_task:
        return Prompts(default=default)
    by_task: dict[str, list[Question]] = {}
    for question in pool:
        by_task.setdefault(question.task, []).append(question)
    return Prompts(default=default, by_task={task: make_prompt(name, own) for task, own in by_task.items()})


def examples_from(pool: Iterable[Question], count: int) -> list[Question]:
    """The first ``count`` questions of ``pool``, its tasks taking turns.

    Raises:
        ConfigError: if the pool holds fewer.
    """
    by_task: dict[str, list[Question]] = {}
    for question in pool:
        by_task.setdefault(question.task, []).append(question)
    turns = [q for row in range(count) for qs in by_task.values() for q in qs[row : row + 1]]
    if len(turns) < count:
        raise ConfigError(f"{count} examples were asked for, but there are only {len(turns)} train questions.")
    return turns[:count]


def without_examples(questions: Sequence[Question], prompts: Prompts) -> list[Question]:
    """The questions that are no twins of a worked example."""
    shown = have_twins(
        [q.ask for q in questions], [q.entry is None for q in questions], [each.ask for each in prompts.examples]
    )
    return [question for question, is_shown in zip(questions, shown, strict=True) if not is_shown]


def read_prompts(path: Path) -> Prompts:
    """Read a prompt file: a prompt for all tasks (keys ``style``, ``examples``), or one by task (``default``,
    ``by_task``).

    Raises:
        ConfigError: if the file is missing or is no prompt; names the key.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        kind = Prompts if isinstance(values, dict) and "default" in values else Prompt
        return Prompts.for_all(kind.model_validate(values))
    except FileNotFoundError:
        raise ConfigError(f"there is no prompt file {path}; `polar prompt --out {path.parent}` makes one.") from None
    except (ValidationError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is no prompt file (keys: style, examples): {error}") from error


def write_prompts(prompts: Prompts, path: Path) -> None:
    """Write a prompt file that `read_prompts` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(json.loads(prompts.model_dump_json()), allow_unicode=True, sort_keys=False)
    path.write_text(text, encoding="utf-8")
