"""The explorer: what it executes is what `polar run` executes, searches stop, markup stays text."""

from __future__ import annotations

from threading import Event

import numpy as np
import pytest
import torch

from agents.explaining import Explains, Option, Step
from agents.fixed import StaticAgent
from eval.explorer.atlas import ORDERS, atlas_html
from eval.explorer.drawing import answers_html, decision_html, lane_html, lens_html, search_html, toggled
from eval.explorer.explorer import Explorer, Run, SearchState
from polar_env.errors import ProgramError, QuestionError, UnknownNameError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Ask, Prompt, Question
from polar_env.runner import Answer, Decoding
from polar_env.runner.lens import Lens, logit_lens
from polar_env.worlds import LiveWorld, RecordedWorld
from tests.recording import made_world
from tests.worlds import world_of

EVIL = "<script>alert(1)</script>"
QUESTIONS = [Question.of("Say a", "a"), Question.of("Say b", "b", task="more")]
SHORT = Program((0, 2, 3))


@pytest.fixture(scope="module")
def world(tiny_llm: FrozenLLM) -> LiveWorld:
    return world_of(tiny_llm, Prompt(style="qa", max_new_tokens=4))


@pytest.fixture
def explorer(world: LiveWorld) -> Explorer:
    return Explorer(world, StaticAgent(SHORT, "short"), Program((0, 1, 1, 2, 3)), QUESTIONS)


def test_the_lens_ends_with_what_the_program_says(world: LiveWorld, tiny_llm: FrozenLLM) -> None:
    """After the last layer of a program its likeliest token is the first one that it writes, and so at each prefix."""
    ask, prompt = Ask("Say a"), Prompt(style="qa", max_new_tokens=1)
    for program in (world.identity, SHORT, Program((0, 1, 1, 3))):
        lens = logit_lens(world.asks.runner, ask, prompt, program, top=3)
        assert lens.layers == program.layers
        assert lens.probabilities.shape == (len(program), 3)
        ends = [Program(program.layers[:end]) for end in range(1, len(program) + 1)]
        for end, tokens, probabilities in zip(ends, lens.tokens, lens.probabilities, strict=True):
            written = world.runner.generate([(ask, prompt, end)], Decoding(1))[0]
            assert tokens[0] == tiny_llm.tokenizer.decode([written.tokens[0]])
            assert probabilities[0] == pytest.approx(np.exp(written.log_probs[0]), rel=1e-4)


def test_the_lens_passes_over_blanks(explorer: Explorer, world: LiveWorld, tiny_llm: FrozenLLM) -> None:
    ask, prompt = Ask("Say a"), world.prompts[""]
    (blank,) = tiny_llm.tokenizer(" ", add_special_tokens=False).input_ids
    letter = tiny_llm.tokenizer("a", add_special_tokens=False).input_ids[0]
    passed = explorer.lens(ask, SHORT, (blank, blank, letter))
    expected = logit_lens(world.asks.runner, ask, prompt, SHORT, 5, (blank, blank))
    assert passed.tokens == expected.tokens
    ids = torch.tensor([[*world.asks.runner.encode_ask(ask, prompt).tokens.tolist(), blank, blank]])
    likeliest = tiny_llm.logits(ids, SHORT)[0, -1].softmax(-1).max()
    assert passed.probabilities[-1, 0] == pytest.approx(float(likeliest), rel=1e-4)
    assert explorer.lens(ask, SHORT, (blank,)).tokens == explorer.lens(ask, SHORT).tokens


def test_answers_are_those_of_the_world(explorer: Explorer, world: LiveWorld) -> None:
    ask = explorer.ask("  Say a ")
    *_, (runs, steps) = explorer.compare(ask, explorer.question(ask, ""))
    assert steps == []
    assert [run.name for run in runs] == ["identity", "best static", "short"]
    assert [run.program for run in runs] == [world.identity, explorer.static, SHORT]
    for run in runs:
        written = world.generate([ask], run.program, Decoding(4))[0]
        assert run.text == written.text.strip()
        assert run.answer is not None
        assert run.answer.log_prob == pytest.approx(sum(written.log_probs))
        assert run.right == (run.text == "a")
        assert run.seconds > 0


def test_choices_are_chosen(explorer: Explorer, world: LiveWorld) -> None:
    ask = explorer.ask("Pick", ["one", "", "two"])
    assert ask.choices == ("one", "two")
    *_, run = explorer.run(ask, SHORT)
    assert run.text == world.answers([ask], SHORT)[0].text
    assert run.right is None


def test_bad_input(explorer: Explorer) -> None:
    with pytest.raises(QuestionError, match="no question"):
        explorer.ask("  ")
    with pytest.raises(ProgramError, match="out of range"):
        list(explorer.run(Ask("Say a"), Program((0, 9))))
    assert explorer.question(Ask("new"), "") is None
    assert explorer.ask("Say b").task == "more"  # a known question keeps its task


def test_known_questions_keep_what_they_are(world: LiveWorld) -> None:
    """However a known question is typed, it has its task, its verifier and what that needs."""
    blank = Question.of("Say c ", " c", task="more", verifier="math")
    choice = Question.of("Pick", "one ", choices=("one ", "two"))
    explorer = Explorer(world, StaticAgent(SHORT, "short"), SHORT, QUESTIONS, [blank, choice])
    assert explorer.ask("Say c").task == "more"
    assert explorer.question(explorer.ask("Say c "), "") is blank
    assert explorer.question(explorer.ask("Say c"), "c") is blank
    assert explorer.question(explorer.ask("Pick", ["one", "two"]), "one") is choice
    assert explorer.question(explorer.ask("Say c"), "d") == Question(blank.ask, "d", split="test")


def test_search_finds_the_shortest_right_program_and_stops(explorer: Explorer, world: LiveWorld) -> None:
    gold = world.generate([Ask("Say a")], SHORT, Decoding(1))[0].text.strip() or "x"
    question = Question(Ask("Say a"), gold, split="test")
    *_, last = explorer.search(question, Event(), programs=20)
    assert last.over
    assert 1 < last.done <= last.total == 21  # the identity, too
    assert list(last.right) == sorted(last.right, key=lambda program: (len(program), str(program)))
    assert all(verdict.right for verdict in world.verdicts([(question, program) for program in last.right]))
    stop = Event()
    searching = explorer.search(question, stop, programs=200)
    assert not next(searching).over
    stop.set()
    *_, last = searching
    assert last.stopped
    assert last.done < last.total
    *_, run = explorer.run(Ask("Say a"), SHORT)  # the LLM is free again
    assert run.answer is not None


def test_toggling_goes_round() -> None:
    program = Program.parse("0-3")
    assert [str(program := toggled(program, 1)) for _ in range(3)] == ["0 1x2 2-3", "0 2-3", "0-3"]
    assert toggled(Program((2, 0)), 1).layers == (1, 2, 0)
    assert toggled(Program((3, 2)), 2).layers == (3, 2, 2)  # twice in a row, wherever it stands
    with pytest.raises(ProgramError):
        toggled(Program((1, 1)), 1)


def test_markup_stays_text() -> None:
    run = Run(EVIL, SHORT, EVIL, Answer(EVIL, 0.5, -1.0), 0.01, True)
    lens = Lens((0,), ((EVIL, "\n"),), np.array([[0.9, np.nan]], np.float32))
    pages = [
        answers_html([run], 4),
        lens_html(lens),
        decision_html([Step(EVIL, (Option(EVIL, 0.3, 3), Option("b", 0.1)))]),
        search_html(SearchState(3, 10, (SHORT,)), 4),
        lane_html(SHORT, 4),
    ]
    assert not any("<script" in page for page in pages)
    assert "no numbers" in pages[1]
    assert 'aria-label="layer 1, skipped"' in pages[4]
    assert "None of them" in search_html(SearchState(10, 10, (), over=True), 4)


def test_the_map_of_a_record() -> None:
    programs = [Program.identity(4), SHORT, Program((0, 1, 2))]
    right = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 1, 1]], bool)
    questions = [Question.of(f"{EVIL}{n}", "a", split="test") for n in range(4)]
    record: RecordedWorld = made_world(questions, programs, right, np.zeros((4, 1, 2)))

    def link(question: Question, program: Program) -> str:
        return f"?q={question.id}&p={program}"

    page = atlas_html(record, link, None, ORDERS[0], 10, 2)
    assert "<script" not in page
    assert page.count("<a href") == 8  # four questions, the identity and the program that adds most
    places = [page.index(f"q={questions[n].id}") for n in (3, 1, 2, 0)]
    assert places == sorted(places)  # helped most, helped, never right, the identity is right
    for order in ORDERS:
        assert atlas_html(record, link, None, order, 2, 3).count("<a href") == 6
    with pytest.raises(UnknownNameError):
        atlas_html(record, link, None, "by name", 2, 3)
    with pytest.raises(UnknownNameError):
        atlas_html(record, link, "no task", ORDERS[0], 2, 3)


def test_agents_that_explain(explorer: Explorer) -> None:
    program, steps = explorer.decide(Ask("Say a"))
    assert program == SHORT
    assert steps == []  # a fixed program weighs nothing
    assert not isinstance(explorer.agent, Explains)
