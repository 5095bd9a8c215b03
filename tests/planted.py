"""A planted world: real hidden states of a tiny model, but the right program of each question is known."""

from __future__ import annotations

from collections.abc import Sequence

from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Prompt, Question
from polar_env.runner import Runner, Verdict
from polar_env.worlds import LiveWorld

SUMS, PRODUCTS = Program((0, 1, 3)), Program((0, 1, 2, 2, 3))
"""The best program for each of the two tasks; no other is right for any question."""


def planted_questions(count: int = 40) -> list[Question]:
    """Sums and products, half each."""
    return [
        Question.of(f"What is {n} {sign} {n + 1}?", "1", task=task)
        for n in range(2, 2 + count // 2)
        for sign, task in (("+", "sums"), ("*", "products"))
    ]


def best_program(question: Question) -> Program:
    return SUMS if question.task == "sums" else PRODUCTS


class PlantedWorld(LiveWorld):
    """Executes for real, judges by the plan."""

    def __init__(self, llm: FrozenLLM, prompt: Prompt) -> None:
        super().__init__(Runner(llm), prompt)

    def verdicts(self, pairs: Sequence[tuple[Question, Program]]) -> list[Verdict]:
        return [
            Verdict(program == best_program(q), 0.0 if program == best_program(q) else -5.0) for q, program in pairs
        ]

    def remembers(self, question: Question, program: Program) -> bool:
        return True
