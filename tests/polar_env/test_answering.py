from __future__ import annotations

import pytest

from polar_env.answering import answer
from polar_env.errors import ProgramError
from polar_env.executor import Executor
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Prompt, Question, is_right, load_questions, make_prompt


def test_streamed_pieces_make_the_answers(tiny_llm: FrozenLLM) -> None:
    executor = Executor(tiny_llm, Prompt(style="chat"))
    questions = [Question.ask(f"What is {number}?") for number in range(40)]  # more than one batch
    programs = [Program((0, 2)), tiny_llm.identity] * 20
    pieces = [""] * 40

    def take(row: int, piece: str) -> None:
        pieces[row] += piece

    written = answer(executor, questions, programs, max_new_tokens=9, on_text=take)
    assert pieces == [one.text for one in written]
    assert written[33].tokens == answer(executor, questions[33:34], tiny_llm.identity, max_new_tokens=9)[0].tokens
    with pytest.raises(ProgramError, match="40 rows but 3 programs"):
        answer(executor, questions, programs[:3])


@pytest.mark.smollm2
def test_smollm2_answers_and_stops(smollm2: FrozenLLM) -> None:
    """The verifier's word on a generated answer is the teacher-forced verdict, on nearly all questions."""
    executor = Executor(smollm2, make_prompt("restate-6", load_questions(["arithmetic"], "train")))
    questions = load_questions(["arithmetic"], "test")[::40]
    verdicts = executor.verdicts([(question, smollm2.identity) for question in questions])
    written = answer(executor, questions, smollm2.identity)
    assert all(one.ended_by != "length" for one in written)
    agreed = [is_right(one.text.strip(), q) == v.right for one, q, v in zip(written, questions, verdicts, strict=True)]
    assert sum(agreed) >= len(questions) - 1
    assert any(verdict.right for verdict in verdicts)
