from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agents.fixed import StaticAgent
from agents.search.config import MctsConfig
from eval.agreement import VerdictPairs, agreement, agreement_table, compare_verdicts
from eval.evaluate import ORACLE, Results, evaluate, evaluate_oracle, refuse_leaks
from eval.statistics import mcnemar, paired_difference, share
from eval.summary import shorter_share, summarise
from polar_env.answering import answer
from polar_env.errors import FingerprintError, LeakError
from polar_env.executor import Executor
from polar_env.program import Program
from polar_env.questions import Question, is_right

IDENTITY = StaticAgent(Program.identity(4), "identity")
SHORT = StaticAgent(Program((0, 1, 3)), "short")


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
def results(tmp_path: Path, executor: Executor, questions: list[Question]) -> Results:
    results = Results(tmp_path / "results")
    results.begin(executor, questions, {"agents": ["identity", "short"], "seed": 0})
    evaluate(executor, [IDENTITY, SHORT], questions, results)
    evaluate_oracle(executor, questions[:6], MctsConfig(simulations=8), results)
    return results


def test_rows_are_the_executors_verdicts(results: Results, executor: Executor, questions: list[Question]) -> None:
    for agent in (IDENTITY, SHORT):
        expected = executor.verdicts([(question, agent.program) for question in questions])
        rows = [row for row in results.rows() if row["method"] == agent.name]
        assert [row["question_id"] for row in rows] == [question.id for question in questions]
        assert [row["right"] for row in rows] == [verdict.right for verdict in expected]
    summary = summarise(results.rows(), 4)
    assert summary["identity"].mean_cost == 1.0
    assert summary["short"].mean_cost == 0.75
    assert summary["short"].executions.tolist() == [1, 1, 0, 1]
    assert summary["identity"].delta is None
    assert summary[ORACLE].questions == 6


def test_interrupted_evaluation_goes_on(tmp_path: Path, executor: Executor, questions: list[Question]) -> None:
    results = Results(tmp_path)
    results.begin(executor, questions, {"agents": ["identity"]})

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    many = [Question(text=f"{q.text} {i}", answer=q.answer) for i in range(3) for q in questions]
    with pytest.raises(KeyboardInterrupt):
        evaluate(executor, [IDENTITY], many, results, interrupt)
    assert 0 < len(results.rows()) < len(many)
    evaluate(executor, [IDENTITY], many, results)
    assert [row["question_id"] for row in results.rows()] == [question.id for question in many]


def test_results_of_other_questions_are_refused(
    results: Results, executor: Executor, questions: list[Question]
) -> None:
    with pytest.raises(FingerprintError, match="differs in: questions"):
        results.begin(executor, questions[1:], {"agents": ["identity", "short"], "seed": 0})
    with pytest.raises(FingerprintError, match="differs in: seed"):
        results.begin(executor, questions, {"agents": ["identity", "short"], "seed": 1})


def test_oracle_takes_the_shortest_right_program(
    results: Results, executor: Executor, questions: list[Question]
) -> None:
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
    with pytest.raises(LeakError, match=f"1 of {len(questions)} questions"):
        refuse_leaks(questions, [questions[4].text.upper()])


def test_agreement_counts_what_generation_says(executor: Executor, questions: list[Question], tmp_path: Path) -> None:
    """Verdicts are of one token, generation goes on: the two agree unless what follows changes the answer."""
    chosen, programs = questions[:6], [Program((0, 1, 2, 3)), Program((0, 2))] * 3
    forced = [verdict.right for verdict in executor.verdicts(list(zip(chosen, programs, strict=True)))]
    pairs = VerdictPairs(tmp_path)
    compare_verdicts(executor, "some", chosen[:2], programs[:2], forced[:2], pairs)
    compare_verdicts(executor, "some", chosen, programs, forced, pairs)  # goes on where it was
    rows = {row["question_id"]: row for row in pairs.rows()}
    assert len(pairs.rows()) == 6
    same = []
    for question, program, verdict in zip(chosen, programs, forced, strict=True):
        written = answer(executor, [question], program, max_new_tokens=len(question.answer) + 16)[0].text.strip()
        row = rows[question.id]
        assert (row["forced"], row["written"], row["generated"]) == (verdict, written, is_right(written, question))
        same.append(verdict == row["generated"])
    agreed = agreement(pairs.rows(), "some")
    assert agreement(pairs.rows(), "another") is None
    assert agreed is not None
    assert agreed.value == np.mean(same)
    table = agreement_table(pairs.rows()).markdown()
    assert f"| some | all | 6 | {agreed.percent()} |" in table
