"""Do teacher-forced verdicts and true generation agree? The verifier judges what a program really writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eval.statistics import Estimate, share
from polar_env.answering import answer
from polar_env.executor import Executor
from polar_env.program import Program
from polar_env.questions import Question, is_right

__all__ = ["agreement"]


def agreement(
    executor: Executor,
    questions: Sequence[Question],
    program: Program,
    on_progress: Callable[[int], None] | None = None,
) -> Estimate:
    """Share of questions on which both verdicts agree, with its Wilson interval.

    Args:
        executor: executes and generates.
        questions: open questions; a choice is judged by likelihood, which generation does not show.
        program: the program of both verdicts.
        on_progress: called with the number of questions just answered.
    """
    agreed = []
    for question, verdict in zip(questions, executor.verdicts([(q, program) for q in questions]), strict=True):
        written = answer(executor, question, program, max_new_tokens=len(question.answer) + 16)
        agreed.append(is_right(written.text, question) == verdict.right)
        if on_progress is not None:
            on_progress(1)
    return share(agreed)
