"""What survives: the same programs under other prompts, in another dtype, with shuffled examples, in lm-eval."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.fixed import RandomAgent, StaticAgent
from eval.evaluate import evaluate
from eval.harness import right_in_harness
from eval.methods import Method, method_of
from eval.results import Results
from eval.variations import Variation, read_variations, variation_table, variations_of, vary
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Example, Prompt, Prompts, Question
from polar_env.worlds import LiveWorld
from tests.eval.test_harness import CHOICES, SKIP
from tests.worlds import world_of

EXAMPLES = tuple(Example(question=f"{n} + {n}", answer=str(2 * n), equation=f"{n} + {n} =") for n in range(1, 4))
PROMPTS = Prompts(default=Prompt(style="qa", examples=EXAMPLES, max_new_tokens=3))


def test_what_is_varied() -> None:
    varied = {each.name: each for each in variations_of(PROMPTS, "float32", chat=False)}
    assert list(varied) == [
        "prompt bare", "half the examples", "examples shuffled", "bfloat16", "lm-evaluation-harness"
    ]  # fmt: skip
    assert varied["half the examples"].prompts.default.examples == EXAMPLES[:1]
    assert varied["prompt bare"].prompts.default.examples == EXAMPLES
    shuffled = varied["examples shuffled"].prompts.default.examples
    assert shuffled != EXAMPLES
    assert set(shuffled) == set(EXAMPLES)
    assert varied["bfloat16"].dtype == "bfloat16"
    assert [each.name for each in variations_of(PROMPTS, "bfloat16", chat=True)][:2] == ["prompt bare", "prompt chat"]


@pytest.fixture
def made_questions(tiny_llm: FrozenLLM) -> list[Question]:
    """What the identity writes is right, in turns with nonsense."""
    world = world_of(tiny_llm, PROMPTS)
    asks = [Question.of(f"Say {n}", "?", task=("a", "b")[n % 2]) for n in range(16)]
    written = world.answers([question.ask for question in asks], tiny_llm.identity)
    return [
        Question.of(q.text, a.text if n % 4 and a.text.strip() else "no", task=q.task)
        for n, (q, a) in enumerate(zip(asks, written, strict=True))
    ]


def test_what_survives(tiny_llm: FrozenLLM, made_questions: list[Question], tmp_path: Path) -> None:
    world = world_of(tiny_llm, PROMPTS)
    methods = [
        method_of(StaticAgent(tiny_llm.identity, "identity")),
        method_of(StaticAgent(Program((0, 1, 3)), "best-static")),
        Method("mine", "mine", RandomAgent(4), "agent"),
    ]
    results = Results(tmp_path / "results")
    results.begin(world, made_questions, methods, {})
    evaluate(world, methods, made_questions, results)
    opened: list[str] = []

    def open_world(prompts: Prompts, dtype: str) -> LiveWorld:
        opened.append(dtype)
        return LiveWorld(world.runner, prompts)  # as the command does: it remembers all answers

    same = [Variation("the same", PROMPTS, "float32"), *variations_of(PROMPTS, "float32", chat=False)[:1]]
    varied = vary(open_world, results, made_questions, same)
    shares = {(each.variation, each.method): each.pass_at_1.value for each in varied}
    for method in ("identity", "best-static", "mine"):
        assert shares["the same", method] == shares["as measured", method]
    assert shares["as measured", "identity"] > shares["prompt bare", "identity"]
    assert {row[-1] for row in variation_table(varied, {}).rows} == {""}  # nothing was claimed
    of_mine = {each.variation: each.verdicts["identity"] for each in varied if each.method == "mine"}
    claimed = {"mine": {"identity": of_mine["the same"]}}
    assert of_mine["the same"] == "takes"
    assert of_mine["prompt bare"] == "no difference"
    table = {row[0]: row[-1] for row in variation_table(varied, claimed).rows if row[1] == "mine"}
    assert table["the same"] == "takes to identity: survives"
    assert table["prompt bare"] == "takes to identity: no difference"
    assert vary(open_world, results, made_questions, same) == varied == read_variations(results.folder)
    assert opened == ["float32"] * 2  # what was done is not done again


def test_lm_eval_judges_the_same_programs(tiny_llm: FrozenLLM, made_questions: list[Question]) -> None:
    world = world_of(tiny_llm, PROMPTS)
    questions = [*made_questions, *CHOICES]
    programs = [tiny_llm.identity if n % 2 else SKIP for n in range(len(questions))]
    right = right_in_harness(world, questions, programs)
    assert len(right) == len(questions)
    words = [(q, p, r) for q, p, r in zip(questions, programs, right, strict=True) if q.answer.isalnum()]
    answers = world.answers([q.ask for q, _, _ in words if not q.choices], [p for q, p, _ in words if not q.choices])
    expected = [
        a.text == q.answer for a, (q, _, _) in zip(answers, [w for w in words if not w[0].choices], strict=True)
    ]
    assert [r for q, _, r in words if not q.choices] == expected
    assert 0 < sum(right[len(made_questions) :]) < len(CHOICES)
