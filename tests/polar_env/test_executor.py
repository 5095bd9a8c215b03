from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from polar_env.errors import MemoryBoundError, NonFiniteError, ProgramError, QuestionTooLongError
from polar_env.executor import NO_CHANCE, Executor, Verdict
from polar_env.llm import FrozenLLM, as_model, fastest, load_llm
from polar_env.program import Program, single_edits
from polar_env.questions import Example, Prompt, Question
from tests.conftest import character_tokenizer, tiny_llama
from tests.models import build_other
from tests.oracle import logits_of, restack

PROMPTS = {
    "few-shot": Prompt(style="qa", examples=(Example(question="1 + 1", answer="2"), Example(question="2", answer="2"))),
    "no shared prefix": Prompt(style="bare"),
    "chat": Prompt(style="chat", examples=(Example(question="1 + 1", answer="2"),)),
    "restate": Prompt(style="restate", examples=(Example(question="What is 1 + 1?", answer="2", bare="1 + 1 ="),)),
}


def some_programs(depth: int) -> list[Program]:
    return [Program.identity(depth), *single_edits(Program.identity(depth)), Program((3, 0, 0)), Program((2,))]


@pytest.mark.parametrize("name", PROMPTS)
def test_verdicts_equal_the_restacked_model(tiny_llm: FrozenLLM, questions: list[Question], name: str) -> None:
    """Prefix sharing, the shared prompt, batching by layer: none of it may change a number."""
    executor = Executor(tiny_llm, PROMPTS[name])
    programs = some_programs(tiny_llm.depth)
    pairs = [(question, program) for question in questions for program in programs]
    found = dict(zip([(q.id, p) for q, p in pairs], executor.verdicts(pairs), strict=True))
    for program in programs:
        model = restack(tiny_llm.model, program)
        for question in questions:
            encoded = executor.encoder(question)
            answer = torch.tensor(encoded.answers[0])
            logits = logits_of(model, encoded.whole_row[None])[0, len(encoded.prompt_row) - 1 :]
            expected = float(logits.log_softmax(-1).gather(-1, answer[:, None]).sum())
            verdict = found[(question.id, program)]
            assert verdict.log_prob == pytest.approx(expected, abs=1e-3)
            assert verdict.right == bool((logits.argmax(-1) == answer).all())


def test_some_verdicts_are_right_and_some_wrong(executor: Executor, questions: list[Question]) -> None:
    """Each program is right where it made the gold answer; else the tests around this one would compare nothing."""
    for first, program in enumerate([Program((0, 1, 2, 3)), Program((0, 1, 3)), Program((0, 1, 1, 2, 3))]):
        right = [verdict.right for verdict in executor.verdicts([(question, program) for question in questions])]
        assert all(right[first::3])
        assert not all(right)


def test_what_was_said_is_what_the_program_writes(
    tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]
) -> None:
    executor = Executor(tiny_llm, prompt)
    for program in (Program((0, 1, 2, 3)), Program((0, 2))):
        for question, verdict in zip(questions, executor.verdicts([(q, program) for q in questions]), strict=True):
            prompt_ids = executor.encoder.prompt_ids(question.text)
            written = tiny_llm.generate([prompt_ids], program, max_new_tokens=1)[0]
            assert verdict.said == written.tokens
            assert verdict.right == (written.text == question.answer)


def test_verdicts_do_not_depend_on_the_batch(tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]) -> None:
    programs = some_programs(tiny_llm.depth)
    pairs = [(question, program) for question in questions for program in programs]
    together = Executor(tiny_llm, prompt).verdicts(pairs)
    rng = np.random.default_rng(0)
    for size in (1, 7):
        executor = Executor(tiny_llm, prompt)
        for start in rng.permutation(len(pairs))[:: max(1, 6 // size)]:
            batch = pairs[start : start + size]
            for got, expected in zip(executor.verdicts(batch), together[start : start + size], strict=True):
                assert got.right == expected.right
                assert got.log_prob == pytest.approx(expected.log_prob, abs=1e-4)


def test_a_small_cache_changes_speed_not_verdicts(
    tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]
) -> None:
    pairs = [(question, program) for question in questions for program in some_programs(tiny_llm.depth)]
    ample, tight = Executor(tiny_llm, prompt), Executor(tiny_llm, prompt, memory_bytes=1 << 20)
    for roomy, cramped in zip(ample.verdicts(pairs), tight.verdicts(pairs), strict=True):
        assert roomy.right == cramped.right
        assert roomy.log_prob == pytest.approx(cramped.log_prob, abs=1e-4)
    assert ample.stats.executed_layers <= tight.stats.executed_layers


def test_prefixes_are_shared(executor: Executor, questions: list[Question]) -> None:
    programs = [Program((0, 1, 2, 3)), Program((0, 1, 2)), Program((0, 1, 3))]
    executor.verdicts([(questions[0], program) for program in programs])
    assert executor.stats.executed_layers == 5  # 0, 01, 012, 0123, 013
    assert executor.stats.asked_layers == 10
    executor.verdicts([(questions[0], program) for program in programs])
    assert executor.stats.executed_layers == 5
    assert executor.stats.hit_rate == 0.5


def test_features_do_not_see_the_answer(tiny_llm: FrozenLLM, prompt: Prompt) -> None:
    right, wrong = (Question(text="What is 2 + 2?", answer=answer) for answer in ("4", "177"))
    states = [(), (0,), (0, 1, 2, 3)]
    seen = [Executor(tiny_llm, prompt).features([(question, state) for state in states]) for question in (right, wrong)]
    np.testing.assert_allclose(seen[0], seen[1], atol=2e-3)  # float16 in the cache
    assert seen[0].shape == (3, 2 * tiny_llm.width)


def test_features_are_the_hidden_states_of_the_prompt(tiny_llm: FrozenLLM) -> None:
    executor = Executor(tiny_llm, Prompt(style="bare"))
    question = Question(text="2 + 2 =", answer="4")
    ids = torch.tensor([executor.encoder.prompt_ids(question.text)])
    hidden = tiny_llm.run(ids, Program((0, 1)))[0]
    expected = torch.stack([hidden[-1], hidden.mean(0)])
    expected = expected / expected.pow(2).mean(-1, keepdim=True).sqrt()
    np.testing.assert_allclose(executor.features([(question, (0, 1))])[0], expected.flatten(), atol=5e-3)


def test_choices_are_judged_by_length_normalised_likelihood(tiny_llm: FrozenLLM, prompt: Prompt) -> None:
    executor = Executor(tiny_llm, prompt)
    choices = ("red", "a much longer answer", "7")
    means = []
    for choice in choices:
        verdict = executor.verdicts([(Question(text="Which?", answer=choice), tiny_llm.identity)])[0]
        means.append(verdict.log_prob / len(choice))
    best = int(np.argmax(means))
    for gold, answer in enumerate(choices):
        question = Question(text="Which?", answer=answer, choices=choices, verifier="choice")
        verdict = Executor(tiny_llm, prompt).verdicts([(question, tiny_llm.identity)])[0]
        assert verdict.right == (gold == best)
        assert verdict.log_prob == pytest.approx(means[gold], abs=1e-4)


def test_too_long_question_is_named_before_anything_runs(executor: Executor, questions: list[Question]) -> None:
    long = Question(text="What is " + "1 + " * 80 + "1?", answer="81")
    with pytest.raises(QuestionTooLongError, match=f"question {long.id}"):
        executor.check([*questions, long])
    assert executor.stats.executed_layers == 0


def test_program_of_another_depth_is_refused(executor: Executor, questions: list[Question]) -> None:
    with pytest.raises(ProgramError, match="layer 4 is out of range"):
        executor.verdicts([(questions[0], Program.identity(30))])


def test_a_verdict_that_is_no_number_names_its_layer(prompt: Prompt, questions: list[Question]) -> None:
    model = tiny_llama()
    executor = Executor(FrozenLLM(model, character_tokenizer(chat=True)), prompt)
    model.model.layers[2].mlp.down_proj.weight.data[0, 0] = float("nan")
    fine, spoilt = executor.verdicts([(questions[0], Program((0, 1, 3))), (questions[0], Program((0, 1, 3, 2)))])
    assert fine.log_prob > NO_CHANCE
    assert spoilt == Verdict(False, NO_CHANCE)
    assert executor.stats.non_finite == 1
    assert np.isfinite(executor.features([(questions[0], (0, 1, 3, 2))])).all()
    with pytest.raises(NonFiniteError, match=r"step 2 \(layer 2\)"):
        executor.verdicts([(questions[0], executor.llm.identity)])
    choices = Question(text="Which?", answer="a", choices=("a", "b"))
    assert executor.verdicts([(choices, Program((2, 0)))]) == [Verdict(False, NO_CHANCE)]


@pytest.mark.parametrize("name", ["gpt2", "opt", "bloom", "gpt_neo"])
def test_verdicts_on_families_with_other_positions(name: str, questions: list[Question]) -> None:
    """Learned positions and a bias by distance: the shared prompt counts for the rows behind it."""
    llm = FrozenLLM(build_other(name), character_tokenizer())
    executor = Executor(llm, PROMPTS["few-shot"])
    encoded = executor.encoder(questions[0])
    assert encoded.text.past > 20
    program = Program((0, 2, 2, 3))
    whole = encoded.whole_row[None]
    log_probs = logits_of(as_model(llm, program), whole).log_softmax(-1)[0]
    start = len(encoded.prompt_row) - 1
    expected = sum(float(log_probs[start + i, token]) for i, token in enumerate(encoded.answers[0]))
    verdicts = executor.verdicts([(question, program) for question in questions])
    assert verdicts[0].log_prob == pytest.approx(expected, abs=1e-4)


def test_a_bound_too_small_for_a_question_is_refused_with_the_number_needed(
    tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]
) -> None:
    with pytest.raises(MemoryBoundError, match=f"question {questions[0].id}.*it needs") as refused:
        Executor(tiny_llm, prompt, memory_bytes=1 << 14).check(questions)
    needed = float(str(refused.value).split("it needs ")[1].split(" MiB")[0])
    Executor(tiny_llm, prompt, memory_bytes=int((needed + 0.1) * (1 << 20))).verdicts([(questions[0], Program((0, 2)))])


def test_memory_keeps_its_bound_over_many_programs(
    tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]
) -> None:
    bound = 4 << 20
    executor = Executor(tiny_llm, prompt, memory_bytes=bound)
    rng = np.random.default_rng(0)
    programs = [Program(tuple(rng.integers(0, 4, size=rng.integers(1, 9)).tolist())) for _ in range(1500)]
    for start in range(0, len(programs), 100):
        pairs = [(questions[i % 12], p) for i, p in enumerate(programs[start : start + 100])]
        executor.verdicts(pairs)
        executor.features([(question, program.layers[:2]) for question, program in pairs])
        assert executor.memory_used <= bound
    assert executor.memory_used > bound / 2


def test_questions_of_many_lengths_share_batches(tiny_llm: FrozenLLM) -> None:
    """Shorter rows are padded: four lengths, one batch for each layer, and the same verdicts as alone."""
    asked = [Question(text="1" * length, answer="2" * (1 + length % 2)) for length in (3, 4, 6, 8)]
    executor = Executor(tiny_llm, Prompt(style="bare"))
    together = executor.verdicts([(question, tiny_llm.identity) for question in asked])
    assert sum(executor.stats.calls.values()) == tiny_llm.depth
    for question, verdict in zip(asked, together, strict=True):
        alone = Executor(tiny_llm, Prompt(style="bare")).verdicts([(question, tiny_llm.identity)])[0]
        assert alone.right == verdict.right
        assert alone.log_prob == pytest.approx(verdict.log_prob, abs=1e-4)


@pytest.mark.parametrize("name", PROMPTS)
def test_choices_equal_the_restacked_model(tiny_llm: FrozenLLM, name: str) -> None:
    """The question's keys and values serve all its choices; questions with choices and without share batches."""
    asked = [
        Question(text="2 + 2 is", answer="4", choices=("4", "12", "7 or 8")),
        Question(text="3 + 2 is", answer="no", choices=("13", "yes", "no")),
        Question(text="What is one of 1 and 2?", answer="2", choices=("1", "2")),
    ]
    executor = Executor(tiny_llm, PROMPTS[name], memory_bytes=1 << 22)
    programs = some_programs(tiny_llm.depth)
    beside = [Question(text="2 + 2", answer="4"), Question(text="2 + 2 is", answer="4")]
    pairs = [(question, program) for question in asked + beside for program in programs]
    found = dict(zip(pairs, executor.verdicts(pairs), strict=True))
    for program in programs:
        model = restack(tiny_llm.model, program)
        for question in asked:
            encoded = executor.encoder(question)
            means = []
            for answer in encoded.answers:
                row = torch.cat([encoded.prompt_row, torch.tensor(answer)])
                log_probs = logits_of(model, row[None])[0].log_softmax(-1)[len(encoded.prompt_row) - 1 : -1]
                means.append(float(log_probs.gather(-1, torch.tensor(answer)[:, None]).mean()))
            verdict = found[question, program]
            assert verdict.log_prob == pytest.approx(means[question.gold], abs=1e-4)
            assert verdict.right == (int(np.argmax(means)) == question.gold)


def test_a_question_is_executed_once_for_all_its_choices(tiny_llm: FrozenLLM) -> None:
    executor = Executor(tiny_llm, PROMPTS["few-shot"])
    question = Question(text="2 + 2 is", answer="4", choices=("4", "12", "7 or 8"))
    executor.features([(question, (0, 1, 2, 3))])
    assert executor.stats.choice_layers == 0
    executor.verdicts([(question, tiny_llm.identity)])
    assert executor.stats.executed_layers == executor.stats.choice_layers == tiny_llm.depth
    encoded = executor.encoder(question)
    assert encoded.tokens == sum(len(encoded.prompt_row) + len(answer) - 1 for answer in encoded.answers)
    assert executor.stats.asked_tokens == tiny_llm.depth * encoded.tokens + len(encoded.prompt_row)  # and one feature
    assert executor.stats.sharing > 1.5


def test_questions_that_begin_as_all_examples_do_share_more(tiny_llm: FrozenLLM) -> None:
    examples = (Example(question="What is 1 + 1?", answer="2"), Example(question="What is 9?", answer="9"))
    encoder = Executor(tiny_llm, Prompt(style="qa", examples=examples)).encoder
    alike, other = (encoder(Question(text=text, answer="4")).text for text in ("What is 2 + 2?", "2 + 2"))
    assert alike.past > other.past > 0
    assert "What is" in tiny_llm.tokenizer.decode(alike.before[0].rows[0][other.past :])


def test_capitals_make_another_question(tiny_llm: FrozenLLM) -> None:
    questions = [Question(text=text, answer="1") for text in ("How many a in Anna?", "How many A in Anna?")]
    assert questions[0].id == questions[1].id
    executor = Executor(tiny_llm, PROMPTS["few-shot"])
    together = executor.verdicts([(question, tiny_llm.identity) for question in questions])
    alone = [Executor(tiny_llm, PROMPTS["few-shot"]).verdicts([(q, tiny_llm.identity)])[0] for q in questions]
    assert [verdict.log_prob for verdict in together] == pytest.approx([v.log_prob for v in alone], abs=1e-4)
    assert together[0].log_prob != pytest.approx(together[1].log_prob, abs=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_verdicts_regenerated_in_other_batches(tiny_folder: Path, questions: list[Question], dtype: str) -> None:
    """The verdict-stability test: exact in float32; in bfloat16 few may change, and none by much."""
    llm = load_llm(str(tiny_folder), dtype=dtype)
    pairs = [(question, program) for question in questions for program in some_programs(llm.depth)]
    together = Executor(llm, PROMPTS["few-shot"]).verdicts(pairs)
    changed, moved = [], []
    for size in (1, 5):
        executor = Executor(llm, PROMPTS["few-shot"])
        for start in range(0, len(pairs), 11):
            some = slice(start, start + size)
            for got, expected in zip(executor.verdicts(pairs[some]), together[some], strict=True):
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
