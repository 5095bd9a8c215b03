"""Answering a question for real: greedy generation under a program, with a KV cache slot per step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from polar_env.executor import Executor
from polar_env.program import Program
from polar_env.questions import Question

__all__ = ["Answer", "answer"]


@dataclass(frozen=True)
class Answer:
    """What a program wrote.

    Attributes:
        text: the answer, without what ends it.
        tokens: how many tokens were made.
        seconds: prefill and decoding together.
    """

    text: str
    tokens: int
    seconds: float


def answer(
    executor: Executor,
    question: Question,
    program: Program,
    max_new_tokens: int = 32,
    on_text: Callable[[str], None] | None = None,
) -> Answer:
    """Ask a question under the executor's prompt and let a program write the answer.

    Args:
        executor: gives the LLM and the prompt.
        question: the question.
        program: the program for prefill and every token.
        max_new_tokens: most tokens to make.
        on_text: called with each new piece of text as it is written.

    Raises:
        QuestionTooLongError: if prompt and answer do not fit the model's context.
    """
    llm = executor.llm
    end = executor.prompt.render(llm.tokenizer, question.text, question.bare).end
    made: list[int] = []
    shown = ""

    def text() -> str:
        written = str(llm.tokenizer.decode(made, skip_special_tokens=True))
        return written.split(end)[0] if end else written

    def on_token(token: int) -> None:
        nonlocal shown
        made.append(token)
        if on_text is not None and len(text()) > len(shown):
            on_text(text()[len(shown) :])
            shown = text()

    def finished(tokens: list[int]) -> bool:
        return bool(end) and end in llm.tokenizer.decode(tokens)

    started = time.perf_counter()
    prompt = executor.encoder.prompt_ids(question.text, question.bare)
    llm.generate(prompt, program, max_new_tokens, stop=finished, on_token=on_token)
    return Answer(text().strip(), len(made), time.perf_counter() - started)
