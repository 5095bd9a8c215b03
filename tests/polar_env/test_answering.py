from __future__ import annotations

import pytest

from polar_env.answering import answer
from polar_env.executor import Executor
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Prompt, Question, is_right, load_questions, make_prompt


def test_streamed_pieces_make_the_answer(tiny_llm: FrozenLLM) -> None:
    executor = Executor(tiny_llm, Prompt(style="chat"))
    pieces: list[str] = []
    written = answer(executor, Question.ask("What is 3?"), Program((0, 2)), max_new_tokens=9, on_text=pieces.append)
    assert "".join(pieces).strip() == written.text
    assert 1 <= written.tokens <= 9
    assert written.seconds > 0


@pytest.mark.smollm2
def test_smollm2_answers_and_stops(smollm2: FrozenLLM) -> None:
    """The verifier's word on a generated answer is the teacher-forced verdict, on nearly all questions."""
    executor = Executor(smollm2, make_prompt("restate-6", load_questions(["arithmetic"], "train")))
    questions = load_questions(["arithmetic"], "test")[::40]
    verdicts = executor.verdicts([(question, smollm2.identity) for question in questions])
    written = [answer(executor, question, smollm2.identity) for question in questions]
    assert all(one.tokens < 32 for one in written)  # it ended by itself
    agreed = [is_right(one.text, q) == v.right for one, q, v in zip(written, questions, verdicts, strict=True)]
    assert sum(agreed) >= len(questions) - 1
    assert any(verdict.right for verdict in verdicts)
