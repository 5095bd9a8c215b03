from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from polar_env.errors import ConfigError, QuestionError, QuestionFileError, UnknownNameError
from polar_env.questions import (
    SPLITS,
    Ask,
    Example,
    Prompt,
    Prompts,
    Question,
    builtin_mixtures,
    have_twins,
    is_right,
    load_pool,
    load_questions,
    make_prompt,
    mixed_order,
    parse_spec,
    read_prompts,
    split_of,
    twin_clusters,
    twin_key,
    without_examples,
    write_prompts,
)
from tests.conftest import character_tokenizer

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def write_lines(path: Path, rows: list[object]) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return f"jsonl:{path}"


def test_splits_of_the_mixture_do_not_overlap() -> None:
    pool = load_pool(["arithmetic"])
    by_split = {split: {twin_key(q.ask) for q in pool.split(split)} for split in SPLITS}
    assert not by_split["train"] & by_split["validation"]
    assert not by_split["train"] & by_split["test"]
    assert not by_split["validation"] & by_split["test"]
    assert len(pool.split("test")) >= 500


def test_every_mixture_answers_its_own_questions() -> None:
    for name in set(builtin_mixtures()) - {"gsm8k", "math"}:  # those come from the hub
        questions = load_questions([name])
        assert len({q.id for q in questions}) == len(questions)
        for question in questions[::37]:
            assert is_right(question.answer, question)
            if question.ask.equation is not None:
                value = eval(question.ask.equation.removesuffix(" ="))
                assert value == pytest.approx(float(question.answer))


def test_split_is_a_matter_of_the_text_alone() -> None:
    first, second = Question.of("What is  1 + 2?", "3"), Question.of("what is 2+1", "three", difficulty="hard")
    assert first.split == second.split == split_of(twin_key(first.ask))
    assert first.id != second.id  # other tokens
    assert first.id == Question.of("What is  1 + 2?", "5", task="sums").id


def test_inline_options_reach_reasoning_gym() -> None:
    questions = load_questions(["rg:chain_sum {size: 20, options: {min_terms: 2, max_terms: 2, max_digits: 1}}"])
    assert len(questions) == 20
    assert all(len(q.ask.equation.split()) == 4 for q in questions if q.ask.equation)


@pytest.mark.parametrize("name", ["rg:basic_arithmetic", "rg:chain_sum", "rg:products"])
def test_default_data_sets(name: str) -> None:
    questions = load_questions([name + " {size: 30}"])
    assert len(questions) == 30
    assert all(is_right(q.answer, q) for q in questions)


def test_json_lines_open_and_multiple_choice(tmp_path: Path) -> None:
    spec = write_lines(
        tmp_path / "q.jsonl",
        [
            {"question": "How many legs has a cat?", "answer": 4},
            {"question": "Sky?", "choices": ["red", "blue"], "gold": 1},
        ],
    )
    legs, sky = load_questions([spec])
    assert (legs.answer, legs.verifier, legs.task) == ("4", "math", tmp_path.name)
    assert (sky.answer, sky.gold, sky.choices, sky.verifier) == ("blue", 1, ("red", "blue"), "choice")
    assert {q.split for q in load_questions([spec + " {split: test}"])} == {"test"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"question": "a"', "not JSON"),
        ("[1]", "not a JSON object"),
        ({"answer": "4"}, "field 'question' is missing"),
        ({"question": "a"}, "field 'answer' is missing"),
        ({"question": "a", "choices": ["x", "y"]}, "field 'gold' is missing"),
        ({"question": "a", "choices": ["x", "y"], "gold": 2}, "field 'gold' is 2"),
        ({"question": 5, "answer": "4"}, "field 'question' is 5"),
        ({"question": " ", "answer": "4"}, "is empty"),
        ({"question": "a", "answer": " "}, "the answer may not be empty"),
    ],
)
def test_broken_line_names_file_line_and_field(tmp_path: Path, row: object, message: str) -> None:
    spec = write_lines(
        tmp_path / "q.jsonl", [{"question": "1?", "answer": "1"}, row, {"question": "2?", "answer": "2"}]
    )
    with pytest.raises(QuestionFileError, match=message) as caught:
        load_questions([spec])
    assert f"{tmp_path / 'q.jsonl'}:2:" in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    pool = load_pool([spec], skip_broken=True)
    assert len(pool.questions) == 2
    assert len(pool.broken) == 1


def test_no_data_set_gives_its_answer_away() -> None:
    """In rg:countdown the expression is the answer, so it must not become part of a prompt."""
    assert all(question.ask.equation is None for question in load_questions(["rg:countdown {size: 10}"]))


def test_files_are_read_to_their_end(tmp_path: Path) -> None:
    spec = write_lines(tmp_path / "q.jsonl", [{"question": f"{n}?", "answer": n} for n in range(900)])
    assert len(load_questions([spec])) == 900
    assert len(load_questions([spec + " {size: 7}"])) == 7
    (tmp_path / "q.jsonl").write_bytes(b'{"question": "\xff", "answer": "1"}')
    with pytest.raises(QuestionFileError, match=r"q\.jsonl:1:"):
        load_questions([spec])


def test_unknown_sources_name_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'chain_sum'"):
        load_questions(["rg:chain_sun"])
    with pytest.raises(UnknownNameError, match="Did you mean 'arithmetic'"):
        parse_spec("arithmetics")
    with pytest.raises(ConfigError, match="sizes"):
        parse_spec("rg:chain_sum {sizes: 3}")
    with pytest.raises(ConfigError, match="no regular expression"):
        parse_spec("rg:chain_sum {match: '('}")
    with pytest.raises(ConfigError, match="may only name"):
        parse_spec("rg:chain_sum {text: '{expresion}'}")
    with pytest.raises(ConfigError, match="no_such_option"):
        load_questions(["rg:chain_sum {options: {no_such_option: 3}}"])
    with pytest.raises(QuestionFileError, match="no such file"):
        load_questions(["jsonl:nowhere.jsonl"])
    with pytest.raises(QuestionError, match="--questions"):
        load_questions([])


def test_verifiers() -> None:
    assert is_right(" 1,000 ", Question.of("a", "1000", verifier="math"))
    assert is_right("The answer is 42.", Question.of("a", "42", verifier="math"))
    assert not is_right("43", Question.of("a", "42", verifier="math"))
    assert is_right("Paris ", Question.of("a", "paris"))
    choice = Question.of("a", "blue", choices=("red", "blue"), verifier="choice")
    assert is_right("B.", choice)
    assert is_right("Blue sky", choice)
    assert not is_right("red", choice)


def test_prompt_styles() -> None:
    pool = [Question.of(f"What is {a} + 1?", str(a + 1), equation=f"{a} + 1 =") for a in (1, 2)]
    tokenizer = character_tokenizer(chat=True)
    asked = Ask("What is 5 + 1?", equation="5 + 1 =")

    def prompt_text(name: str) -> str:
        rendered = make_prompt(name, pool).render(tokenizer, asked)
        return rendered.prompt + rendered.lead + "6" + rendered.end

    assert prompt_text("qa-1") == "Question: What is 1 + 1?\nAnswer: 2\nQuestion: What is 5 + 1?\nAnswer: 6\n"
    assert prompt_text("bare-2") == "1 + 1 = 2\n2 + 1 = 3\n5 + 1 = 6\n"
    assert prompt_text("chat-0") == "<s>user\nWhat is 5 + 1?</s>\n<s>assistant\n6</s>"
    assert prompt_text("restate-1").endswith(
        "<s>assistant\n1 + 1 = 2</s>\n<s>user\nWhat is 5 + 1?</s>\n<s>assistant\n5 + 1 = 6</s>"
    )
    with pytest.raises(ConfigError, match="no chat template"):
        make_prompt("chat-0", pool).render(character_tokenizer(), Ask("a"))


def test_prompt_names_and_files(tmp_path: Path) -> None:
    pool = [Question.of(f"{a}?", "1", task=task) for task in ("x", "y") for a in range(3)]
    prompt = make_prompt("qa-4", [Question.of(q.text + q.task, "1", task=q.task) for q in pool])
    assert [e.question for e in prompt.examples] == ["0?x", "0?y", "1?x", "1?y"]
    prompts = Prompts(default=prompt, by_task={"x": Prompt(style="bare")})
    write_prompts(prompts, tmp_path / "p.yaml")
    assert read_prompts(tmp_path / "p.yaml") == prompts
    assert prompts.name == "qa-4, x: bare-0"
    (tmp_path / "one.yaml").write_text("style: qa\nexamples: []")
    assert read_prompts(tmp_path / "one.yaml") == Prompts.for_all(Prompt(style="qa"))
    with pytest.raises(UnknownNameError, match="Did you mean 'chat-6'"):
        make_prompt("chatt-6", pool)
    with pytest.raises(ConfigError, match="7 examples"):
        make_prompt("qa-7", pool)
    with pytest.raises(ConfigError, match="no prompt file"):
        read_prompts(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("style: qa\nexample: []")
    with pytest.raises(ConfigError, match="example"):
        read_prompts(tmp_path / "bad.yaml")


def test_mixed_order_mixes_tasks() -> None:
    questions = [Question.of(f"{t}{i}", "1", task=t) for t, n in (("a", 30), ("b", 10)) for i in range(n)]
    order = mixed_order(questions, 0)
    assert sorted(q.text for q in order) == sorted(q.text for q in questions)
    assert sum(q.task == "b" for q in order[:8]) == 2


def test_asking_finds_the_equation() -> None:
    for text, equation in (
        ("What is 17 + 25?", "17 + 25 ="),
        ("What is (1 + 2) * 3?", "(1 + 2) * 3 ="),
        ("Who are you?", None),
        ("Is 2-digit 45 even?", None),
        ("Is 1 + 2 more than 3 - 1?", None),
        ("Tom has 3+4 apples and eats 2, how many are left?", None),
        ("Please calculate 3*4.", "3*4 ="),
    ):
        assert Ask.typed(text).equation == equation


def test_a_line_of_a_file_is_the_ask_that_one_would_type(tmp_path: Path) -> None:
    texts = ["What is 17 + 25?", "How many legs has a cat?", "Tom has 3+4 apples, how many?"]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"question": t, "answer": "1"}) + "\n" for t in texts))
    asks = {question.ask.id for question in load_questions([f"jsonl:{tmp_path / 'q.jsonl'}"])}
    assert asks == {Ask.typed(text).id for text in texts}


def test_a_worked_example_with_choices_is_its_own_twin() -> None:
    question = Question.of("Which is red?", "blood", choices=("blood", "milk"))
    prompts = Prompts.for_all(make_prompt("qa-1", [question]))
    assert not without_examples([question], prompts)


def test_a_changed_copy_of_a_prompt_is_another_prompt() -> None:
    """Its digest is the key of all that is remembered of a question: a copy must not keep the original's."""
    prompt = Prompt(style="qa", max_new_tokens=4)
    before = prompt.digest
    for change in ({"style": "bare"}, {"max_new_tokens": 5}, {"examples": (Example(question="a", answer="b"),)}):
        changed = prompt.model_copy(update=change)
        assert changed.digest == Prompt.model_validate(changed.model_dump()).digest != before
    assert prompt.model_copy().digest == before


def test_prompt_default_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Prompt(style="qa").style = "chat"  # type: ignore[misc]


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the question sets for experiments are not beside this checkout")
@pytest.mark.parametrize(
    "path", ["gsm8k/test.jsonl", "arc_easy/test.jsonl", "math/test.jsonl", "openbookqa/test.jsonl"]
)
def test_real_question_sets_load(path: str) -> None:
    questions = load_questions([f"jsonl:{SHARED_DATA / path} {{split: test}}"], "test")
    assert len(questions) > 200


TWINS = [
    ("What is 3 + 4?", "Calculate 4+3."),
    ("What is 2 * 3 - 4?", "-4 + 3 * 2"),
    ("What is (1 + 2) * 5?", "5 * (2 + 1) ="),
    ("How many legs has  a cat?", "how many legs has a cat"),
    (
        "Tom buys 3 apples at 2 dollars each and then he eats one of them at home. How much did Tom pay in all?",
        "Tom buys 3 apples at 2 dollars each and then eats one of them at home. How much did Tom pay in all?",
    ),
]
NO_TWINS = [
    ("What is 3 - 4?", "What is 4 - 3?"),
    ("What is 8 / 2?", "What is 2 / 8?"),
    ("What is (1 + 2) * 5?", "What is 1 + 2 * 5?"),
    ("Tom buys 3 apples at 2 dollars each. How much does he pay in all?", "Tom buys 3 apples at 5 dollars each. How "
     "much does he pay in all?"),
    ("In May old Tom buys 3 red apples for the school. How many are left?", "In May old Kim buys 3 red apples for the "
     "school. How many are left?"),
    ("Does 'cat' come before the word that follows in a list?", "Does 'dog' come before the word that follows in a "
     "list?"),
]  # fmt: skip


def clusters_of(first: str, second: str) -> list[str]:
    return twin_clusters([Ask(first), Ask(second)], [True, True])


@pytest.mark.parametrize(("first", "second"), TWINS)
def test_twins_fall_into_one_split(tmp_path: Path, first: str, second: str) -> None:
    one, other = clusters_of(first, second)
    assert one == other
    rows: list[object] = [{"question": text, "answer": "1"} for text in (first, second)]
    splits = {question.split for question in load_questions([write_lines(tmp_path / "q.jsonl", rows)])}
    assert len(splits) == 1
    assert have_twins([Ask(first), Ask("Who?")], [True, True], [Ask(second)]) == [True, False]


@pytest.mark.parametrize(("first", "second"), NO_TWINS)
def test_questions_of_one_template_stay_apart(first: str, second: str) -> None:
    one, other = clusters_of(first, second)
    assert one != other


def test_choices_belong_to_the_question() -> None:
    colours = [Ask("Which is a colour?", choices=c) for c in (("red", "two"), ("two", "red"), ("blue", "two"))]
    assert twin_key(colours[0]) == twin_key(colours[1]) != twin_key(colours[2])


def test_twins_in_sources_with_fixed_splits_leave_and_are_counted(tmp_path: Path) -> None:
    """Two files that come already split: a question of the second that stands in the first, in other words, leaves."""
    train = write_lines(tmp_path / "train.jsonl", [{"question": "What is 3 + 4?", "answer": "7"}])
    test = write_lines(
        tmp_path / "test.jsonl",
        [{"question": text, "answer": "7"} for text in ("Compute 4 + 3", "What is 3 +  4?", "What is 5 + 2?")],
    )
    pool = load_pool([train + " {split: train}", test + " {split: test}"])
    assert [question.text for question in pool.questions] == ["What is 3 + 4?", "What is 5 + 2?"]
    assert (pool.duplicates, pool.twins_removed) == (1, 1)


def test_a_worked_example_is_no_question() -> None:
    prompts = Prompts.for_all(Prompt(style="qa", examples=(Example(question="What is 3 + 4?", answer="7"),)))
    left = without_examples([Question.of("Calculate 4+3.", "7"), Question.of("What is 4 + 4?", "8")], prompts)
    assert [question.text for question in left] == ["What is 4 + 4?"]


def test_reasoning_gym_scores_its_own_questions() -> None:
    """An answer in another form, which its own scorer takes and a comparison of texts would not."""
    for question in load_questions(["rg:countdown {size: 5}"]):
        assert question.verifier == "reasoning_gym"
        assert is_right(question.answer, question)
        assert is_right(f"({question.answer})", question)
        assert not is_right("1 + 1", question)
    with pytest.raises(QuestionError, match="no reasoning-gym entry"):
        is_right("1", Question.of("a", "1", verifier="reasoning_gym"))


@pytest.mark.parametrize("name", ["arithmetic", "skills", "words"])
def test_a_mixture_is_the_same_in_every_process(name: str) -> None:
    """Python hashes strings anew in each process; what is sampled from a set would be other questions each time."""
    code = f"from polar_env.questions import load_pool; print(*(q.id for q in load_pool(['{name}']).questions))"
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    )  # fmt: skip
    assert first == second
