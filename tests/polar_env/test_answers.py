"""What a program answers: choices as verdicts judge them, written answers as generation writes them, and their cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Ask, Prompt, Question, is_right_in_any_form
from polar_env.runner import Decoding
from polar_env.worlds import LiveWorld
from tests.worlds import world_of

PROGRAMS = [Program((0, 1, 2, 3)), Program((0, 1, 1, 3)), Program((2,))]
CHOICES = [
    Question.of(f"Which is {n}?", ("one", "to", "three")[n % 3], choices=("one", "to", "three")) for n in range(12)
]


def test_a_choice_is_the_verdicts(tiny_llm: FrozenLLM) -> None:
    """The likeliest choice is the gold one exactly where the verdict is right."""
    world = world_of(tiny_llm, Prompt(style="qa"))
    pairs = [(question, program) for question in CHOICES for program in PROGRAMS]
    answers = world.answers([question.ask for question, _ in pairs], [program for _, program in pairs])
    right = [answer.text == question.answer for answer, (question, _) in zip(answers, pairs, strict=True)]
    assert right == [verdict.right for verdict in world.verdicts(pairs)]
    assert 0 < sum(right) < len(right)
    for answer in answers:
        assert answer.choice_means.index(max(answer.choice_means)) == ("one", "to", "three").index(answer.text)
        assert 1 / 3 < answer.confidence < 1
        assert answer.tokens == 0


def test_written_answers_are_generations_whatever_stands_beside(world: LiveWorld, questions: list[Question]) -> None:
    """Choices and open questions in one call, each under its own program."""
    asks = [questions[0].ask, CHOICES[0].ask, questions[1].ask]
    answers = world.answers(asks, PROGRAMS)
    for i in (0, 2):
        (written,) = world.generate([asks[i]], PROGRAMS[i], Decoding(1))
        assert answers[i].text == written.text.strip()
        assert answers[i].log_prob == pytest.approx(written.log_probs[0], abs=1e-5)
        assert answers[i].confidence == pytest.approx(np.exp(written.log_probs[0]), abs=1e-5)
    assert answers[1].text in CHOICES[0].choices


def test_samples_depend_on_the_ask_and_its_seed_alone(tiny_llm: FrozenLLM, questions: list[Question]) -> None:
    world = world_of(tiny_llm, Prompt(style="qa", max_new_tokens=5))
    asks = [q.ask for q in (*questions[:4], *CHOICES[:4])]
    seeds = list(range(10, 18))
    together = [answer.text for answer in world.answers(asks, PROGRAMS[0], 1.5, seeds)]
    backwards = [answer.text for answer in world.answers(asks[::-1], PROGRAMS[0], 1.5, seeds[::-1])]
    assert together == backwards[::-1]
    greedy = [answer.text for answer in world.answers(asks, PROGRAMS[0])]
    assert together != greedy


def test_a_program_without_numbers_has_no_answer(tiny_llm: FrozenLLM, questions: list[Question]) -> None:
    """Its neighbours' answers stand."""
    weight = tiny_llm.layers[2].mlp.down_proj.weight
    kept = weight.clone()
    world = world_of(tiny_llm, Prompt(style="qa"))
    asks = [questions[0].ask, questions[1].ask, CHOICES[0].ask]
    programs = [Program((0, 1)), Program((0, 2)), Program((0, 2))]
    expected = world.answers(asks[:1], programs[:1])
    try:
        weight.fill_(float("nan"))
        world.runner.clear()
        answers = world.answers(asks, programs)
    finally:
        weight.copy_(kept)
    assert answers[0].text == expected[0].text
    assert [answer.text for answer in answers[1:]] == ["", ""]
    assert [answer.confidence for answer in answers[1:]] == [0.0, 0.0]


def test_confidences_are_those_of_the_read_out(world: LiveWorld, questions: list[Question]) -> None:
    pairs = [(question.ask, program.layers) for question in questions[:3] for program in PROGRAMS]
    for (ask, layers), confidence in zip(pairs, world.asks.confidences(pairs), strict=True):
        ids = world.runner.encode_ask(ask, world.prompts[ask.task]).tokens[None]
        chances = world.llm.logits(ids, Program(layers))[0, -1].softmax(-1)
        first, second = chances.topk(2).values.tolist()
        entropy = float(torch.distributions.Categorical(chances).entropy())
        assert confidence.tolist() == pytest.approx([first, first - second, entropy], abs=1e-4)


def test_operations_are_those_that_torch_counts(tiny_llm: FrozenLLM, smollm2: FrozenLLM) -> None:
    for llm, program in ((tiny_llm, Program((0, 2, 2))), (smollm2, Program((0, 3, 3, 29)))):
        ids = torch.arange(3, 14)[None]
        cache = llm.new_cache([program])
        llm.run(ids[:, :5], program, cache)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            llm.read_out(llm.run(ids[:, 5:], program, cache)[:, -1])
        expected = llm.flops.of_program(program, 6, 5) + llm.flops.of_read_out
        assert expected == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_an_answers_operations_are_its_layers_and_read_outs(tiny_llm: FrozenLLM, questions: list[Question]) -> None:
    world = world_of(tiny_llm, Prompt(style="qa"))
    ask, identity = questions[0].ask, tiny_llm.identity
    text = world.runner.encode_ask(ask, world.prompts[ask.task]).text
    one, three = (world.answer_flops(ask, identity, tokens) for tokens in (1, 3))
    flops = tiny_llm.flops
    assert one == flops.of_program(identity, text.length, text.past) + flops.of_read_out
    more = sum(flops.of_program(identity, 1, text.past + text.length + step) for step in (0, 1)) + 2 * flops.of_read_out
    assert three == pytest.approx(one + more)
    chosen = world.answer_flops(CHOICES[0].ask, identity, 0)
    assert chosen > world.answer_flops(replace(CHOICES[0].ask, choices=()), identity, 1)
    assert world.answer_flops(ask, Program((0,)), 1) < one / 2


@pytest.mark.parametrize(
    ("answer", "gold", "any_form"),
    [
        ("7", "7", True),
        ("The answer is 7.", "7", True),
        ("17", "7", False),
        ("7.5", "7", False),
        ("14/2", "7", True),
        ("It is Paris", "paris", True),
        ("Parisian", "paris", False),
    ],
)
def test_another_form_is_told_from_another_answer(answer: str, gold: str, any_form: bool) -> None:
    assert is_right_in_any_form(answer, Question.of("?", gold)) == any_form


def test_the_lenient_judge_knows_choices_without_answers() -> None:
    assert not is_right_in_any_form("", Question(Ask("What is 3 + 4?"), "7"))
