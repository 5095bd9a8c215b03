from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from polar_env.errors import MemoryBoundError, NonFiniteError, ProgramError, QuestionTooLongError
from polar_env.llm import FrozenLLM, as_model, fastest, load_llm
from polar_env.program import Program, single_edits
from polar_env.questions import Ask, Example, Prompt, Prompts, Question
from polar_env.runner import NO_CHANCE, Decoding, Verdict, generate
from polar_env.runner.encoding import Encoder
from polar_env.worlds import LiveWorld
from tests.conftest import character_tokenizer, tiny_llama
from tests.models import build_other
from tests.oracle import greedy_tokens, logits_of, restack
from tests.worlds import encoded_by, world_of

PROMPTS = {
    "few-shot": Prompt(style="qa", examples=(Example(question="1 + 1", answer="2"), Example(question="2", answer="2"))),
    "no shared prefix": Prompt(style="bare"),
    "chat": Prompt(style="chat", examples=(Example(question="1 + 1", answer="2"),)),
    "restate": Prompt(style="restate", examples=(Example(question="What is 1 + 1?", answer="2", equation="1 + 1 ="),)),
}


def some_programs(depth: int) -> list[Program]:
    return [Program.identity(depth), *single_edits(Program.identity(depth)), Program((3, 0, 0)), Program((2,))]


@pytest.mark.parametrize("name", PROMPTS)
def test_verdicts_equal_the_restacked_model(tiny_llm: FrozenLLM, questions: list[Question], name: str) -> None:
    """Prefix sharing, the shared prompt, batching by layer: none of it may change a number."""
    world = world_of(tiny_llm, PROMPTS[name])
    programs = some_programs(tiny_llm.depth)
    pairs = [(question, program) for question in questions for program in programs]
    found = dict(zip([(q.id, p) for q, p in pairs], world.verdicts(pairs), strict=True))
    for program in programs:
        model = restack(tiny_llm.model, program)
        for question in questions:
            encoded = encoded_by(world, question)
            answer = torch.tensor(encoded.answers[0])
            logits = logits_of(model, encoded.gold_row[None])[0, len(encoded.ask.tokens) - 1 :]
            expected = float(logits.log_softmax(-1).gather(-1, answer[:, None]).sum())
            verdict = found[(question.id, program)]
            assert verdict.log_prob == pytest.approx(expected, abs=1e-3)
            assert verdict.right == bool((logits.argmax(-1) == answer).all())


def test_some_verdicts_are_right_and_some_wrong(world: LiveWorld, questions: list[Question]) -> None:
    """Each program is right where it made the gold answer; else the tests around this one would compare nothing."""
    for first, program in enumerate([Program((0, 1, 2, 3)), Program((0, 1, 3)), Program((0, 1, 1, 2, 3))]):
        right = [verdict.right for verdict in world.verdicts([(question, program) for question in questions])]
        assert all(right[first::3])
        assert not all(right)


def test_what_was_said_is_what_the_program_writes(
    tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]
) -> None:
    world = world_of(tiny_llm, prompt)
    for program in (Program((0, 1, 2, 3)), Program((0, 2))):
        for question, verdict in zip(questions, world.verdicts([(q, program) for q in questions]), strict=True):
            prompt_ids = encoded_by(world, question).ask.tokens.tolist()
            written = generate(tiny_llm, [prompt_ids], program, max_new_tokens=1)[0]
            assert verdict.answer_tokens == written.tokens
            assert verdict.right == (written.text == question.answer)


def test_verdicts_do_not_depend_on_the_batch(tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]) -> None:
    programs = some_programs(tiny_llm.depth)
    pairs = [(question, program) for question in questions for program in programs]
    together = world_of(tiny_llm, prompt).verdicts(pairs)
    rng = np.random.default_rng(0)
    for size in (1, 7):
        world = world_of(tiny_llm, prompt)
        for start in rng.permutation(len(pairs))[:: max(1, 6 // size)]:
            batch = pairs[start : start + size]
            for got, expected in zip(world.verdicts(batch), together[start : start + size], strict=True):
                assert got.right == expected.right
                assert got.log_prob == pytest.approx(expected.log_prob, abs=1e-4)


def test_a_small_cache_changes_speed_not_verdicts(
    tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]
) -> None:
    pairs = [(question, program) for question in questions for program in some_programs(tiny_llm.depth)]
    ample, tight = world_of(tiny_llm, prompt), world_of(tiny_llm, prompt, memory_bytes=1 << 20)
    for roomy, cramped in zip(ample.verdicts(pairs), tight.verdicts(pairs), strict=True):
        assert roomy.right == cramped.right
        assert roomy.log_prob == pytest.approx(cramped.log_prob, abs=1e-4)
    assert ample.stats.executed_layers <= tight.stats.executed_layers


def test_prefixes_are_shared(world: LiveWorld, questions: list[Question]) -> None:
    programs = [Program((0, 1, 2, 3)), Program((0, 1, 2)), Program((0, 1, 3))]
    world.verdicts([(questions[0], program) for program in programs])
    assert world.stats.executed_layers == 5  # 0, 01, 012, 0123, 013
    assert world.stats.asked_layers == 10
    world.verdicts([(questions[0], program) for program in programs])
    assert world.stats.executed_layers == 5
    assert world.stats.hit_rate == 0.5


def test_observations_are_the_same_bits_whatever_the_answer(tiny_llm: FrozenLLM, prompt: Prompt) -> None:
    right, wrong = (Question.of("What is 2 + 2?", answer) for answer in ("4", "177"))
    states = [(), (0,), (0, 1, 2, 3)]
    seen = [
        world_of(tiny_llm, prompt).observations([(question.ask, state) for state in states])
        for question in (right, wrong)
    ]
    np.testing.assert_array_equal(seen[0], seen[1])
    assert seen[0].shape == (3, 2 * tiny_llm.width)


def test_observations_are_the_hidden_states_of_the_prompt(tiny_llm: FrozenLLM) -> None:
    world = world_of(tiny_llm, Prompt(style="bare"))
    question = Question.of("2 + 2 =", "4")
    ids = encoded_by(world, question).ask.tokens[None]
    hidden = tiny_llm.run(ids, Program((0, 1)))[0]
    expected = torch.stack([hidden[-1], hidden.mean(0)])
    expected = expected / expected.pow(2).mean(-1, keepdim=True).sqrt()
    np.testing.assert_allclose(world.observations([(question.ask, (0, 1))])[0], expected.flatten(), atol=5e-3)


def test_choices_are_judged_by_length_normalised_likelihood(tiny_llm: FrozenLLM, prompt: Prompt) -> None:
    world = world_of(tiny_llm, prompt)
    choices = ("red", "a much longer answer", "7")
    means = []
    for choice in choices:
        verdict = world.verdicts([(Question.of("Which?", choice), tiny_llm.identity)])[0]
        means.append(verdict.log_prob / len(choice))
    best = int(np.argmax(means))
    for gold, answer in enumerate(choices):
        question = Question.of("Which?", answer, choices=choices, verifier="choice")
        verdict = world_of(tiny_llm, prompt).verdicts([(question, tiny_llm.identity)])[0]
        assert verdict.right == (gold == best)
        assert verdict.log_prob == pytest.approx(means[gold], abs=1e-4)


def test_too_long_question_is_named_before_anything_runs(world: LiveWorld, questions: list[Question]) -> None:
    long = Question.of("What is " + "1 + " * 80 + "1?", "81")
    with pytest.raises(QuestionTooLongError, match=f"question {long.id}"):
        world.check([*questions, long])
    assert world.stats.executed_layers == 0


def test_program_of_another_depth_is_refused(world: LiveWorld, questions: list[Question]) -> None:
    with pytest.raises(ProgramError, match="layer 4 is out of range"):
        world.verdicts([(questions[0], Program.identity(30))])


def test_a_verdict_that_is_no_number_names_its_layer(prompt: Prompt, questions: list[Question]) -> None:
    model = tiny_llama()
    world = world_of(FrozenLLM(model, character_tokenizer(chat=True)), prompt)
    model.model.layers[2].mlp.down_proj.weight.data[0, 0] = float("nan")
    fine, spoilt = world.verdicts([(questions[0], Program((0, 1, 3))), (questions[0], Program((0, 1, 3, 2)))])
    assert fine.log_prob > NO_CHANCE
    assert spoilt == Verdict(False, NO_CHANCE)
    assert world.stats.non_finite == 1
    assert np.isfinite(world.observations([(questions[0].ask, (0, 1, 3, 2))])).all()
    with pytest.raises(NonFiniteError, match=r"position 2 \(layer 2\)"):
        world.verdicts([(questions[0], world.llm.identity)])
    choices = Question.of("Which?", "a", choices=("a", "b"))
    assert world.verdicts([(choices, Program((2, 0)))]) == [Verdict(False, NO_CHANCE)]


@pytest.mark.parametrize("name", ["gpt2", "opt", "bloom", "gpt_neo"])
def test_verdicts_on_families_with_other_positions(name: str, questions: list[Question]) -> None:
    """Learned positions and a bias by distance: the shared prompt counts for the rows behind it."""
    llm = FrozenLLM(build_other(name), character_tokenizer())
    world = world_of(llm, PROMPTS["few-shot"])
    encoded = encoded_by(world, questions[0])
    assert encoded.ask.text.past > 20
    program = Program((0, 2, 2, 3))
    whole = encoded.gold_row[None]
    log_probs = logits_of(as_model(llm, program), whole).log_softmax(-1)[0]
    start = len(encoded.ask.tokens) - 1
    expected = sum(float(log_probs[start + i, token]) for i, token in enumerate(encoded.answers[0]))
    verdicts = world.verdicts([(question, program) for question in questions])
    assert verdicts[0].log_prob == pytest.approx(expected, abs=1e-4)


def test_a_bound_too_small_for_a_question_is_refused_with_the_number_needed(
    tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]
) -> None:
    with pytest.raises(MemoryBoundError, match=f"question {questions[0].id}.*it needs") as refused:
        world_of(tiny_llm, prompt, memory_bytes=1 << 14).check(questions)
    needed = float(str(refused.value).split("it needs ")[1].split(" MiB")[0])
    world_of(tiny_llm, prompt, memory_bytes=int((needed + 0.1) * (1 << 20))).verdicts([(questions[0], Program((0, 2)))])


def test_memory_keeps_its_bound_over_many_programs(
    tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]
) -> None:
    bound = 4 << 20
    world = world_of(tiny_llm, prompt, memory_bytes=bound)
    rng = np.random.default_rng(0)
    programs = [Program(tuple(rng.integers(0, 4, size=rng.integers(1, 9)).tolist())) for _ in range(1500)]
    for start in range(0, len(programs), 100):
        pairs = [(questions[i % 12], p) for i, p in enumerate(programs[start : start + 100])]
        world.verdicts(pairs)
        world.observations([(question.ask, program.layers[:2]) for question, program in pairs])
        assert world.runner.memory_used <= bound
    assert world.runner.memory_used > bound / 2


def test_questions_of_many_lengths_share_batches(tiny_llm: FrozenLLM) -> None:
    """Shorter rows are padded: four lengths, one batch for each layer, and the same verdicts as alone."""
    asked = [Question.of("1" * length, "2" * (1 + length % 2)) for length in (3, 4, 6, 8)]
    world = world_of(tiny_llm, Prompt(style="bare"))
    together = world.verdicts([(question, tiny_llm.identity) for question in asked])
    assert sum(world.stats.calls.values()) == tiny_llm.depth
    for question, verdict in zip(asked, together, strict=True):
        alone = world_of(tiny_llm, Prompt(style="bare")).verdicts([(question, tiny_llm.identity)])[0]
        assert alone.right == verdict.right
        assert alone.log_prob == pytest.approx(verdict.log_prob, abs=1e-4)


@pytest.mark.parametrize("name", PROMPTS)
def test_choices_equal_the_restacked_model(tiny_llm: FrozenLLM, name: str) -> None:
    """The question's keys and values serve all its choices; questions with choices and without share batches."""
    asked = [
        Question.of("2 + 2 is", "4", choices=("4", "12", "7 or 8")),
        Question.of("3 + 2 is", "no", choices=("13", "yes", "no")),
        Question.of("What is one of 1 and 2?", "2", choices=("1", "2")),
    ]
    world = world_of(tiny_llm, PROMPTS[name], memory_bytes=1 << 22)
    programs = some_programs(tiny_llm.depth)
    beside = [Question.of("2 + 2", "4"), Question.of("2 + 2 is", "4")]
    pairs = [(question, program) for question in asked + beside for program in programs]
    found = dict(zip(pairs, world.verdicts(pairs), strict=True))
    for program in programs:
        model = restack(tiny_llm.model, program)
        for question in asked:
            encoded = encoded_by(world, question)
            means = []
            for answer in encoded.answers:
                row = torch.cat([encoded.ask.tokens, torch.tensor(answer)])
                log_probs = logits_of(model, row[None])[0].log_softmax(-1)[len(encoded.ask.tokens) - 1 : -1]
                means.append(float(log_probs.gather(-1, torch.tensor(answer)[:, None]).mean()))
            verdict = found[question, program]
            assert verdict.log_prob == pytest.approx(means[question.gold], abs=1e-4)
            assert verdict.right == (int(np.argmax(means)) == question.gold)


def test_a_question_is_executed_once_for_all_its_choices(tiny_llm: FrozenLLM) -> None:
    world = world_of(tiny_llm, PROMPTS["few-shot"])
    question = Question.of("2 + 2 is", "4", choices=("4", "12", "7 or 8"))
    world.observations([(question.ask, (0, 1, 2, 3))])
    assert world.stats.answer_layers == 0
    world.verdicts([(question, tiny_llm.identity)])
    assert world.stats.executed_layers == world.stats.answer_layers == tiny_llm.depth
    encoded = encoded_by(world, question)
    assert encoded.size == sum(len(encoded.ask.tokens) + len(answer) - 1 for answer in encoded.answers)
    assert world.stats.asked_tokens == tiny_llm.depth * encoded.size + len(encoded.ask.tokens)  # and one feature
    assert world.stats.sharing > 1.5


def test_questions_that_begin_as_all_examples_do_share_more(tiny_llm: FrozenLLM) -> None:
    examples = (Example(question="What is 1 + 1?", answer="2"), Example(question="What is 9?", answer="9"))
    encoder = Encoder(tiny_llm.tokenizer, Prompt(style="qa", examples=examples), tiny_llm.context_length)
    alike, other = (encoder.ask(Ask(text)).text for text in ("What is 2 + 2?", "2 + 2"))
    assert alike.past > other.past > 0
    assert "What is" in tiny_llm.tokenizer.decode(alike.contexts[0].rows[0][other.past :])


def test_capitals_make_another_question(tiny_llm: FrozenLLM) -> None:
    questions = [Question.of(text, "1") for text in ("How many a in Anna?", "How many A in Anna?")]
    assert questions[0].id != questions[1].id
    world = world_of(tiny_llm, PROMPTS["few-shot"])
    together = world.verdicts([(question, tiny_llm.identity) for question in questions])
    alone = [world_of(tiny_llm, PROMPTS["few-shot"]).verdicts([(q, tiny_llm.identity)])[0] for q in questions]
    assert [verdict.log_prob for verdict in together] == pytest.approx([v.log_prob for v in alone], abs=1e-4)
    assert together[0].log_prob != pytest.approx(together[1].log_prob, abs=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_verdicts_regenerated_in_other_batches(tiny_folder: Path, questions: list[Question], dtype: str) -> None:
    """The verdict-stability test: exact in float32; in bfloat16 few may change, and none by much."""
    llm = load_llm(str(tiny_folder), dtype=dtype)
    pairs = [(question, program) for question in questions for program in some_programs(llm.depth)]
    together = world_of(llm, PROMPTS["few-shot"]).verdicts(pairs)
    changed, moved = [], []
    for size in (1, 5):
        world = world_of(llm, PROMPTS["few-shot"])
        for start in range(0, len(pairs), 11):
            some = slice(start, start + size)
            for got, expected in zip(world.verdicts(pairs[some]), together[some], strict=True):
                changed.append(got.right != expected.right)
                moved.append(abs(got.log_prob - expected.log_prob))
    assert sum(changed) == 0 if dtype == "float32" else np.mean(changed) < 0.1
    assert max(moved) < (1e-4 if dtype == "float32" else 0.5)


def test_the_fastest_dtype_and_threads_are_measured(
    tiny_folder: Path, tiny_llm: FrozenLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretend(faster: torch.dtype) -> None:
        monkeypatch.setattr(fastest, "seconds_per_layer", lambda llm, *_: 1.0 if llm.dtype is faster else 2.0)

    pretend(torch.bfloat16)
    assert load_llm(str(tiny_folder), dtype="auto").dtype is torch.bfloat16
    pretend(torch.float32)
    assert load_llm(str(tiny_folder), dtype="auto").dtype is torch.float32
    monkeypatch.undo()
    assert fastest.fastest_dtype(tiny_llm) in fastest.CANDIDATES
    before = torch.get_num_threads()
    assert 1 <= fastest.fastest_threads(tiny_llm) <= (os.cpu_count() or 1)
    assert torch.get_num_threads() == before
    monkeypatch.setattr(fastest, "seconds_per_layer", lambda *_: 1.0 / torch.get_num_threads())
    assert fastest.fastest_threads(tiny_llm) == len(os.sched_getaffinity(0))


def test_tasks_with_prompts_of_their_own_run_in_one_batch(tiny_llm: FrozenLLM) -> None:
    """Worked examples of different length, another end of an answer, choices: each as if it were alone."""
    prompts = Prompts(default=PROMPTS["no shared prefix"], by_task={n: PROMPTS[n] for n in ("few-shot", "restate")})
    tasks = ("other", *prompts.by_task)
    asked = [
        Question.of(f"{n} + {n}", str(2 * n), task=task, equation=f"{n} + {n} =") for n in (1, 2) for task in tasks
    ]
    asked.append(Question.of("2 + 2 is", "4", task="few-shot", choices=("4", "12", "7 or 8")))
    programs = [tiny_llm.identity, Program((0, 1, 3)), Program((0, 1, 2, 2, 3))]
    pairs = [(question, program) for question in asked for program in programs]
    world = world_of(tiny_llm, prompts)
    together = world.verdicts(pairs)
    calls = sum(world.stats.calls.values())
    alone = [world_of(tiny_llm, prompts[q.task]) for q in asked]
    separate = [one.verdicts([(q, p) for p in programs]) for one, q in zip(alone, asked, strict=True)]
    for verdict, expected in zip(together, [v for each in separate for v in each], strict=True):
        assert verdict.right == expected.right
        assert verdict.log_prob == pytest.approx(expected.log_prob, abs=1e-4)
    # Asks and what holds answers have batches of their own: so much of what could be one call is two.
    assert calls < 0.6 * sum(sum(one.stats.calls.values()) for one in alone)
    asks, each = [q.ask for q, _ in pairs], [p for _, p in pairs]
    written = world.generate(asks, each, Decoding(max_new_tokens=8))
    for ask, program, one in zip(asks, each, written, strict=True):
        expected = world_of(tiny_llm, prompts[ask.task]).generate([ask], program, Decoding(max_new_tokens=8))[0]
        assert (one.tokens, one.ended_by) == (expected.tokens, expected.ended_by)


@pytest.mark.parametrize("name", PROMPTS)
def test_verdicts_after_observations_are_the_same(tiny_llm: FrozenLLM, questions: list[Question], name: str) -> None:
    """The answer runs behind the observed ask, whose states are not executed again."""
    pairs = [(question, program) for question in questions[:6] for program in some_programs(tiny_llm.depth)]
    observed, plain = world_of(tiny_llm, PROMPTS[name]), world_of(tiny_llm, PROMPTS[name])
    observed.observations([(question.ask, program.layers) for question, program in pairs])
    executed = observed.stats.executed_layers
    for one, other in zip(observed.verdicts(pairs), plain.verdicts(pairs), strict=True):
        assert one.right == other.right
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-4)
    assert observed.stats.executed_layers == executed


@pytest.mark.parametrize("name", PROMPTS)
def test_generation_starts_from_the_states_that_are_there(tiny_llm: FrozenLLM, name: str) -> None:
    """After an observation nothing of the prompt is executed again; the tokens are those of the re-stacked model."""
    asks = [Ask(f"{n} + {n}", equation=f"{n} + {n} =") for n in (1, 22, 333)]
    programs = [Program((0, 1, 1, 3)), tiny_llm.identity, Program((3, 0))]
    world = world_of(tiny_llm, PROMPTS[name])
    world.observations([(ask, program.layers) for ask, program in zip(asks, programs, strict=True)])
    executed = world.stats.executed_layers, world.stats.prompt_layers
    written = world.generate(asks, programs, Decoding(max_new_tokens=6))
    assert (world.stats.executed_layers, world.stats.prompt_layers) == executed
    for ask, program, one in zip(asks, programs, written, strict=True):
        ids = world.runner.encode_ask(ask, PROMPTS[name]).tokens.tolist()
        made = greedy_tokens(restack(tiny_llm.model, program), ids, 6)
        assert list(one.tokens) == made[: len(one.tokens)]


def test_worked_examples_are_executed_once_for_all_that_agree_on_the_program_so_far(tiny_llm: FrozenLLM) -> None:
    world = world_of(tiny_llm, PROMPTS["few-shot"])
    asks = [Ask(f"{n}?") for n in range(9)]
    programs = [Program((0, 1, 2, 3)), Program((0, 1, 3)), tiny_llm.identity] * 3
    world.generate(asks, programs, Decoding(max_new_tokens=2))
    assert world.stats.prompt_layers == 5  # 0, 01, 012, 0123, 013
    assert world.stats.executed_layers == 3 * (4 + 3 + 4)
