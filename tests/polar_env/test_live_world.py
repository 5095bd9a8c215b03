from __future__ import annotations

import pytest

from polar_env.errors import ProgramError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Ask, Prompt, is_right, load_questions, make_prompt
from polar_env.runner import Decoding
from tests.worlds import world_of


def test_streamed_pieces_make_the_answers(tiny_llm: FrozenLLM) -> None:
    world = world_of(tiny_llm, Prompt(style="chat"))
    asks = [Ask.typed(f"What is {number}?") for number in range(40)]  # more than one batch
    programs = [Program((0, 2)), tiny_llm.identity] * 20
    pieces = [""] * 40

    def take(row: int, piece: str) -> None:
        pieces[row] += piece

    written = world.generate(asks, programs, Decoding(max_new_tokens=9), take)
    assert pieces == [one.text for one in written]
    alone = world_of(tiny_llm, Prompt(style="chat")).generate(asks[33:34], tiny_llm.identity, Decoding(9))[0]
    assert written[33].tokens == alone.tokens
    with pytest.raises(ProgramError, match="40 rows but 3 programs"):
        world.generate(asks, programs[:3])


@pytest.mark.smollm2
def test_smollm2_answers_and_stops(smollm2: FrozenLLM) -> None:
    """The verifier's word on a generated answer is the teacher-forced verdict, on nearly all questions."""
    world = world_of(smollm2, make_prompt("restate-6", load_questions(["arithmetic"], "train")))
    questions = load_questions(["arithmetic"], "test")[::40]
    verdicts = world.verdicts([(question, smollm2.identity) for question in questions])
    written = world.generate([question.ask for question in questions], smollm2.identity)
    assert all(one.ended_by != "length" for one in written)
    agreed = [is_right(one.text.strip(), q) == v.right for one, q, v in zip(written, questions, verdicts, strict=True)]
    assert sum(agreed) >= len(questions) - 1
    assert any(verdict.right for verdict in verdicts)
