"""Answering questions for real: greedy generation under a prompt, with a program for each question."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from polar_env.executor import Executor
from polar_env.llm.generation import Generation
from polar_env.program import Program, one_each
from polar_env.questions import Question

__all__ = ["BATCH", "answer"]

BATCH = 32
"""Questions that are answered together."""


def answer(
    executor: Executor,
    questions: Sequence[Question],
    programs: Program | Sequence[Program],
    max_new_tokens: int = 32,
    on_text: Callable[[int, str], None] | None = None,
) -> list[Generation]:
    """Ask questions under the executor's prompt and let programs write the answers.

    Args:
        executor: gives the LLM and the prompt.
        questions: the questions.
        programs: one program for all questions, or one for each.
        max_new_tokens: most tokens of an answer.
        on_text: called with the number of a question and each new piece of its answer.

    Returns:
        An answer for each question; its text ends before what ends an answer under this prompt.

    Raises:
        ProgramError: if a program does not fit the model, or there are not as many programs as questions.
        QuestionTooLongError: if prompt and answer do not fit the model's context.
    """
    llm, encoder = executor.llm, executor.encoder
    programs = one_each(programs, len(questions))
    ends = {executor.prompt.render(llm.tokenizer, q.text, q.bare).end for q in questions}
    written: list[Generation] = []
    for start in range(0, len(questions), BATCH):
        batch = slice(start, start + BATCH)
        written += llm.generate(
            [encoder.prompt_ids(q.text, q.bare) for q in questions[batch]],
            programs[batch],
            max_new_tokens=max_new_tokens,
            stop=sorted(ends - {""}),
            on_text=on_text and _numbered(on_text, start),
        )
    return written


def _numbered(on_text: Callable[[int, str], None], start: int) -> Callable[[int, str], None]:
    """Rows of a batch, counted from its first question's number."""
    return lambda row, piece: on_text(start + row, piece)
