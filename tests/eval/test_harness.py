"""The model ``polar`` in lm-evaluation-harness: the identity is its own ``hf``, a program is as in our harness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.card import save_agent
from agents.registry import load_agent
from polar_env.errors import ConfigError
from polar_env.llm import FrozenLLM, load_llm
from polar_env.program import Program
from polar_env.questions import Ask, Prompt, Question, is_right
from tests.agents.test_agents import card_of
from tests.worlds import world_of

lm_eval = pytest.importorskip("lm_eval")
from lm_eval.tasks import TaskManager  # noqa: E402

from eval.harness import PolarLM  # noqa: E402 - it wants lm-eval

CHOICES = [
    Question.of(f"Which of them is {n}?", ("one", "to", "three")[n % 3], choices=("one", "to", "three"), task="choices")
    for n in range(12)
]
OPENED = [Question.of(f"What is {n} + 1?", "1", task="open") for n in range(12)]
SKIP = Program((0, 1, 3))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """A task of each kind, from local files, under the words of our prompt ``qa-0``."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = {
        "choices": [{"question": q.text, "choices": [f"{c}\n" for c in q.choices], "gold": q.gold} for q in CHOICES],
        "open": [{"question": q.text, "answer": q.answer} for q in OPENED],
        "texts": [{"text": q.text * 3} for q in OPENED],
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))

    def task(name: str, **config: Any) -> dict[str, Any]:
        data = {"data_files": {"test": str(folder / f"{name}.jsonl")}, "cache_dir": str(folder / "cache")}
        source = {"task": name, "dataset_path": "json", "dataset_kwargs": data, "test_split": "test"}
        return source | {"doc_to_text": "Question: {{question}}\nAnswer:"} | config

    return [
        task("choices", output_type="multiple_choice", doc_to_target="{{gold}}", doc_to_choice="{{choices}}",
             metric_list=[{"metric": "acc"}]),
        task("open", output_type="generate_until", doc_to_target="{{answer}}",
             generation_kwargs={"until": ["\n"], "max_gen_toks": 6, "do_sample": False},
             metric_list=[{"metric": "exact_match"}]),
        task("texts", output_type="loglikelihood_rolling", doc_to_text="", doc_to_target="{{text}}",
             metric_list=[{"metric": "word_perplexity"}]),
    ]  # fmt: skip


def evaluated(model: Any, tasks: list[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores, and what the model said on each document."""
    own = TaskManager(include_defaults=False)  # reading the thousands of its own task files takes many seconds
    done = lm_eval.simple_evaluate(model=model, tasks=tasks, task_manager=own, bootstrap_iters=0, log_samples=True)
    answers = {name: [sample["resps"] for sample in samples] for name, samples in done["samples"].items()}
    return done["results"], answers


def numbers(answers: Any) -> list[float]:
    """All numbers in nested lists."""
    if isinstance(answers, list | tuple):
        return [number for each in answers for number in numbers(each)]
    return [float(answers)] if isinstance(answers, float | int) else []


def test_the_identity_is_the_untouched_model(tiny_folder: Path, tasks: list[Any]) -> None:
    from lm_eval.models.huggingface import HFLM

    frozen = load_llm(str(tiny_folder), dtype="float32")
    theirs = evaluated(HFLM(pretrained=frozen.model, tokenizer=frozen.tokenizer, batch_size=4), tasks)
    ours = evaluated(PolarLM(str(tiny_folder), batch_size=4), tasks)
    for name in ("choices", "open", "texts"):
        for key, value in theirs[0][name].items():
            assert ours[0][name][key] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value)
        assert numbers(ours[1][name]) == pytest.approx(numbers(theirs[1][name]), abs=1e-4)
    assert ours[1]["open"] == theirs[1]["open"]
    assert len(numbers(ours[1]["choices"])) == 2 * 3 * len(CHOICES)


def test_a_program_is_right_where_our_own_harness_says_so(tiny_folder: Path, tasks: list[Any]) -> None:
    scores, answers = evaluated(PolarLM(str(tiny_folder), program=str(SKIP), batch_size=4), tasks[:2])
    world = world_of(load_llm(str(tiny_folder), dtype="float32"), Prompt(style="qa", max_new_tokens=6))
    chosen = world.answers([question.ask for question in CHOICES], SKIP)
    for answer, said in zip(chosen, answers["choices"], strict=True):
        assert answer.choice_log_probs == pytest.approx([float(each[0][0]) for each in said], abs=1e-4)
    right = [max(range(3), key=a.choice_log_probs.__getitem__) == q.gold for a, q in zip(chosen, CHOICES, strict=True)]
    assert scores["choices"]["acc,none"] == pytest.approx(sum(right) / len(right))
    written = world.answers([question.ask for question in OPENED], SKIP)
    assert [answer.text for answer in written] == [said[0][0].strip() for said in answers["open"]]
    exact = [is_right(answer.text, question) for answer, question in zip(written, OPENED, strict=True)]
    assert scores["open"]["exact_match,none"] == pytest.approx(sum(exact) / len(exact))


def test_an_agent_chooses_for_each_document(tiny_folder: Path, tasks: list[Any], tmp_path: Path) -> None:
    frozen = load_llm(str(tiny_folder), dtype="float32")
    world = world_of(frozen, Prompt(style="qa", max_new_tokens=6))
    save_agent(card_of(world, "random"), tmp_path, {})
    _, answers = evaluated(PolarLM(str(tiny_folder), agent=str(tmp_path), batch_size=4), tasks[1:2])
    by_name = PolarLM(str(tiny_folder), agent="random", batch_size=4)
    assert len(set(by_name._programs([_request(question.text) for question in OPENED]))) > 3
    agent: Any = load_agent(str(tmp_path), world)
    programs = [decision.program for decision in agent.decide([Ask.typed(question.text) for question in OPENED])]
    written = world.answers([question.ask for question in OPENED], programs)
    assert [answer.text for answer in written] == [said[0][0].strip() for said in answers["open"]]
    with pytest.raises(ConfigError, match="have no field 'question' for the agent; they have text"):
        by_name._programs([_request("x", "text")])


def _request(text: str, name: str = "question") -> Any:
    from lm_eval.api.instance import Instance

    return Instance("generate_until", {name: text}, (text, {}), 0, metadata=("open", 0, 1))


def test_what_cannot_be_asked_for(tiny_folder: Path, tiny_llm: FrozenLLM) -> None:
    with pytest.raises(ConfigError, match="a program or an agent, not both"):
        PolarLM(str(tiny_folder), program="0-3", agent="identity")
    with pytest.raises(ConfigError, match="answers out of several runs"):
        PolarLM(str(tiny_folder), agent="majority:2")
