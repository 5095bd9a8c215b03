from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from agents.card import AgentCard
from agents.fixed import StaticAgent
from agents.search.config import MctsConfig
from eval.agreement import VerdictPairs, agreement, agreement_table, compare_verdicts
from eval.evaluate import (
    ORACLE,
    Results,
    evaluate,
    evaluate_oracle,
    method_of,
    oracle_method,
    refuse_leaks,
    with_distinct_names,
)
from eval.statistics import mcnemar, paired_difference, share
from eval.summary import shorter_share, slower_notes, summarise
from polar_env.errors import ConfigError, FingerprintError, LeakError
from polar_env.program import Program
from polar_env.questions import Ask, Example, Prompt, Prompts, Question, is_right, twin_hash
from polar_env.runner import Decoding
from polar_env.worlds import LiveWorld

IDENTITY = method_of(StaticAgent(Program.identity(4), "identity"))
SHORT = method_of(StaticAgent(Program((0, 1, 3)), "short"))
SEARCH = MctsConfig(simulations=8)
METHODS = [IDENTITY, SHORT, oracle_method(SEARCH, 0)]


def test_wilson_interval() -> None:
    estimate = share([True] * 39 + [False] * 61)
    assert estimate.value == 0.39
    assert (estimate.low, estimate.high) == pytest.approx((0.3002, 0.4880), abs=1e-3)
    assert share([False] * 10).high == pytest.approx(0.2775, abs=1e-3)
    with pytest.raises(ValueError, match="no questions"):
        share([])


def test_paired_bootstrap_uses_the_pairs() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(500) < 0.4
    better = base | (rng.random(500) < 0.08)
    paired = paired_difference(better.tolist(), base.tolist())
    assert paired.low > 0
    assert paired.low < paired.value < paired.high
    shuffled = paired_difference(better.tolist(), rng.permutation(base).tolist())
    assert shuffled.high - shuffled.low > 2 * (paired.high - paired.low)
    assert paired_difference([True], [True]).low == 0


def test_mcnemar_counts_discordant_pairs() -> None:
    assert mcnemar([True] * 8 + [False] * 2, [False] * 8 + [True] * 2) == pytest.approx(0.1094, abs=1e-3)
    assert mcnemar([True, False], [True, False]) == 1.0


@pytest.fixture
def results(tmp_path: Path, world: LiveWorld, questions: list[Question]) -> Results:
    results = Results(tmp_path / "results")
    results.begin(world, questions, METHODS, {})
    evaluate(world, METHODS, questions, results)
    evaluate_oracle(world, METHODS[-1], questions[:6], SEARCH, results)
    return results


def test_rows_are_the_executors_verdicts(results: Results, world: LiveWorld, questions: list[Question]) -> None:
    for method, program in ((IDENTITY, Program.identity(4)), (SHORT, Program((0, 1, 3)))):
        expected = world.verdicts([(question, program) for question in questions])
        rows = [row for row in results.rows() if row["method_id"] == method.id]
        assert [row["question_id"] for row in rows] == [question.id for question in questions]
        assert [row["right"] for row in rows] == [verdict.right for verdict in expected]
    summary = summarise(results.rows(), 4)
    assert summary["identity"].mean_cost == 1.0
    assert summary["short"].mean_cost == 0.75
    assert summary["short"].executions.tolist() == [1, 1, 0, 1]
    assert summary["identity"].delta is None
    assert summary[ORACLE].questions == 6


def test_interrupted_evaluation_goes_on(tmp_path: Path, world: LiveWorld, questions: list[Question]) -> None:
    results = Results(tmp_path)
    results.begin(world, questions, [IDENTITY], {})

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    many = [Question.of(f"{q.text} {i}", q.answer) for i in range(3) for q in questions]
    with pytest.raises(KeyboardInterrupt):
        evaluate(world, [IDENTITY], many, results, interrupt)
    assert 0 < len(results.rows()) < len(many)
    evaluate(world, [IDENTITY], many, results)
    assert [row["question_id"] for row in results.rows()] == [question.id for question in many]


def test_results_of_other_questions_are_refused(results: Results, world: LiveWorld, questions: list[Question]) -> None:
    with pytest.raises(FingerprintError, match="differs in: questions"):
        results.begin(world, questions[1:], METHODS, {})
    with pytest.raises(FingerprintError, match="differs in: methods"):
        results.begin(world, questions, [*METHODS[:-1], oracle_method(SEARCH, 1)], {})


def test_damaged_results_are_said(results: Results, world: LiveWorld, questions: list[Question]) -> None:
    (results.folder / "results.json").write_text("{")
    with pytest.raises(ConfigError, match=r"results.json is damaged"):
        results.begin(world, questions, [IDENTITY], {})


def test_worked_examples_are_refused(questions: list[Question]) -> None:
    shown = Example(question=questions[0].text.upper(), answer="1", equation=questions[0].ask.equation)
    prompts = Prompts.for_all(Prompt(style="qa", examples=(shown,)))
    with pytest.raises(LeakError, match=f"1 of {len(questions)} questions are worked examples"):
        refuse_leaks(questions, [], prompts)


def test_methods_of_one_name_get_distinct_names(world: LiveWorld, questions: list[Question], tmp_path: Path) -> None:
    """Two agents may share a name, and the identity may be given beside the one that is always measured."""
    same = method_of(StaticAgent(Program((0, 1, 3)), "identity"))
    methods = with_distinct_names([IDENTITY, same, method_of(StaticAgent(Program.identity(4), "again"))])
    assert [method.id for method in methods] == [IDENTITY.id, same.id]
    assert [method.name for method in methods] == ["identity", f"identity ({same.id[:6]})"]
    results = Results(tmp_path)
    results.begin(world, questions, methods, {})
    evaluate(world, methods, questions, results)
    assert len(results.rows()) == 2 * len(questions)
    summary = summarise(results.rows(), 4)
    assert {entry.mean_cost for entry in summary.values()} == {1.0, 0.75}


def test_cost_counts_what_was_executed(results: Results, world: LiveWorld, questions: list[Question]) -> None:
    """Token-layers include worked examples that a program of its own runs again."""
    rows = {row["method"]: row for row in results.rows()}
    assert rows["identity"]["token_layers"] > rows["short"]["token_layers"] > 0
    assert all(row["seconds"] >= row["decide_seconds"] > 0 for row in rows.values())
    slow = summarise(results.rows(), 4)
    slow["short"] = replace(slow["short"], seconds=2 * slow["identity"].seconds)
    (note,) = slower_notes(slow)
    assert note.startswith("short runs programs of fewer layers than the identity (0.750 of it) and yet takes 2.00")


def test_oracle_takes_the_shortest_right_program(results: Results, world: LiveWorld, questions: list[Question]) -> None:
    for row in results.rows():
        if row["method"] == ORACLE and not row["right"]:
            assert row["program"] == "0-3"  # nothing right was found: the identity stands
    base = {r["question_id"]: r["right"] for r in results.rows() if r["method"] == "identity"}
    oracle = [r for r in results.rows() if r["method"] == ORACLE and base[r["question_id"]]]
    found = shorter_share(results.rows(), 4)
    assert (found is None) == (not oracle)
    if found is not None:
        assert found.value == np.mean([row["right"] and row["layers"] < 4 for row in oracle])


def test_training_questions_are_refused(questions: list[Question]) -> None:
    twin = twin_hash(Ask("WHAT IS 1 + 4?", equation="1 + 4 ="))
    for split in ("train", "validation"):
        card = SimpleNamespace(name="mine", train_asks=[], validation_asks=[])
        setattr(card, f"{split}_asks", [twin])
        with pytest.raises(LeakError, match=f"1 of {len(questions)} questions are {split} questions of the agent"):
            refuse_leaks(questions, [cast("AgentCard", card)], Prompts.for_all(Prompt(style="qa")))


def test_agreement_counts_what_generation_says(world: LiveWorld, questions: list[Question], tmp_path: Path) -> None:
    """Verdicts are of one token, generation goes on: the two agree unless what follows changes the answer."""
    chosen, programs = questions[:6], [Program((0, 1, 2, 3)), Program((0, 2))] * 3
    forced = [verdict.right for verdict in world.verdicts(list(zip(chosen, programs, strict=True)))]
    pairs = VerdictPairs(tmp_path)
    compare_verdicts(world, "some", chosen[:2], programs[:2], forced[:2], pairs)
    compare_verdicts(world, "some", chosen, programs, forced, pairs)  # goes on where it was
    rows = {row["question_id"]: row for row in pairs.rows()}
    assert len(pairs.rows()) == 6
    same = []
    for question, program, verdict in zip(chosen, programs, forced, strict=True):
        decoding = Decoding(len(question.answer) + 16)
        written = world.generate([question.ask], program, decoding)[0].text.strip()
        row = rows[question.id]
        assert (row["forced"], row["written"], row["generated"]) == (verdict, written, is_right(written, question))
        same.append(verdict == row["generated"])
    agreed = agreement(pairs.rows(), "some")
    assert agreement(pairs.rows(), "another") is None
    assert agreed is not None
    assert agreed.value == np.mean(same)
    table = agreement_table(pairs.rows()).markdown()
    assert f"| some | all | 6 | {agreed.percent()} |" in table
