"""A planted world: real hidden states of a tiny model, but the right program of each question is known."""

from __future__ import annotations

from collections.abc import Sequence

from polar_env.executor import Executor, Verdict
from polar_env.program import Program
from polar_env.questions import Question

SUMS, PRODUCTS = Program((0, 1, 3)), Program((0, 1, 2, 2, 3))
"""The best program for each of the two tasks; no other is right for any question."""


def planted_questions(count: int = 40) -> list[Question]:
    """Sums and products, half each."""
    return [
        Question(text=f"What is {n} {sign} {n + 1}?", answer="1", task=task)
        for n in range(2, 2 + count // 2)
        for sign, task in (("+", "sums"), ("*", "products"))
    ]


def best_program(question: Question) -> Program:
    return SUMS if question.task == "sums" else PRODUCTS


class PlantedExecutor(Executor):
    """Executes for real, judges by the plan."""

    def verdicts(self, pairs: Sequence[tuple[Question, Program]]) -> list[Verdict]:
        return [
            Verdict(program == best_program(q), 0.0 if program == best_program(q) else -5.0) for q, program in pairs
        ]
