"""The headline on planted verdicts: what is added, what is taken, and what cannot be shown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from eval.comparison import ALL_TASKS, compare, compare_with
from eval.frontier import Family, frontier, gap


def planted_rows(count: int = 600, seed: int = 0) -> pd.DataFrame:
    """A static program, an agent that is right on more questions of one task, one that equals it, and a worse one."""
    rng = np.random.default_rng(seed)
    tasks = np.array(["sums", "words"])[np.arange(count) % 2]
    static = rng.random(count) < 0.4
    verdicts = {
        "best-static": static,
        "reader": static | ((tasks == "words") & (rng.random(count) < 0.4)),
        "same": static ^ (rng.random(count) < 0.02),
        "worse": static & (rng.random(count) < 0.6),
    }
    return pd.DataFrame(
        [
            {"method": method, "question_id": f"q{i}", "task": tasks[i], "right": bool(right[i])}
            for method, right in verdicts.items()
            for i in range(count)
        ]
    )


def test_the_headline_says_what_is_there() -> None:
    compared = compare_with("best-static", planted_rows(), ["best-static", "reader", "same", "worse"])
    assert list(compared) == ["reader", "same", "worse"]
    assert {name: of[ALL_TASKS].verdict for name, of in compared.items()} == {
        "reader": "adds", "same": "no difference", "worse": "takes"
    }  # fmt: skip
    reader = compared["reader"]
    assert list(reader) == [ALL_TASKS, "sums", "words"]
    assert reader["sums"].delta.value == 0.0
    assert reader["words"].verdict == "adds"
    assert (reader[ALL_TASKS].won, reader[ALL_TASKS].lost) == (reader["words"].won, 0)
    assert reader[ALL_TASKS].sentence.startswith("reader adds +")
    assert "to best-static (" in reader[ALL_TASKS].sentence
    same = compared["same"][ALL_TASKS].sentence
    assert "no difference that 600 questions can show" in same
    assert f"one of {100 * compared['same'][ALL_TASKS].smallest:.1f} points in four of five" in same


def test_p_values_are_corrected_over_methods_and_tasks() -> None:
    compared = compare_with("best-static", planted_rows(), ["reader", "same", "worse"])
    cells = [each for of in compared.values() for each in of.values()]
    assert len(cells) == 9
    smallest = min(cells, key=lambda each: each.p)
    assert smallest.p_holm == pytest.approx(9 * smallest.p)
    assert all(each.p <= each.p_holm <= 1 for each in cells)


@pytest.mark.parametrize("won", range(1, 6))
def test_too_few_questions_claim_nothing(won: int) -> None:
    compared = compare([True] * won, [False] * won, ("agent", "best-static"))
    assert compared.delta.low > 0  # a bootstrap of equal values has no width
    assert compared.verdict == "no difference"
    assert compared.sentence.endswith("So few could show none.")


def test_six_questions_of_one_kind_are_the_fewest_that_claim_something() -> None:
    assert compare([True] * 6, [False] * 6, ("agent", "best-static")).verdict == "adds"
    assert compare([False] * 6, [True] * 6, ("agent", "best-static")).verdict == "takes"


def test_what_the_correction_takes_back_is_not_claimed() -> None:
    right, base = [True] * 30 + [False] * 30, [False] * 9 + [True] * 21 + [True] + [False] * 29
    alone = compare(right, base, ("agent", "best-static"))
    assert alone.verdict == "adds"
    rows = pd.concat(
        pd.DataFrame({"method": method, "question_id": range(60), "task": "sums", "right": verdicts})
        for method, verdicts in [("agent", right), ("best-static", base), *((f"same {i}", base) for i in range(9))]
    )
    among_ten = compare_with("best-static", rows, ["agent", *(f"same {i}" for i in range(9))])["agent"][ALL_TASKS]
    assert (among_ten.p, among_ten.delta) == (alone.p, alone.delta)
    assert among_ten.verdict == "no difference"


def test_only_common_questions_are_compared() -> None:
    rows = planted_rows(60)
    half = rows[(rows["method"] != "reader") | rows["question_id"].isin([f"q{i}" for i in range(0, 60, 2)])]
    assert compare_with("best-static", half, ["reader"])["reader"][ALL_TASKS].delta.count == 30
    assert compare_with("best-static", rows[rows["method"] == "reader"], ["reader"]) == {}
    alone = compare_with("best-static", rows[rows["task"] == "sums"], ["reader"])["reader"]
    assert list(alone) == [ALL_TASKS]  # one task is all of them


def test_scripts_read_both_counts() -> None:
    values = compare([True, True, False], [False, True, True], ("a", "b")).as_json()
    assert (values["won"], values["lost"], values["delta"], values["verdict"]) == (1, 1, 0.0, "no difference")
    assert values["p_holm"] == values["p"] == 1.0


def test_frontier_takes_mixtures() -> None:
    costs, accuracy = np.array([0.5, 1.0, 1.5]), np.array([0.2, 0.6, 0.5])
    at = np.array([0.4, 0.5, 0.75, 1.0, 1.5])
    assert frontier(costs, accuracy, at) == pytest.approx([-np.inf, 0.2, 0.4, 0.6, 0.6])


def test_gap_at_equal_cost() -> None:
    """An agent on the line between two static programs has no gap; one that reads the question has what it reads."""
    rng = np.random.default_rng(0)
    easy, hard = rng.random(1500) < 0.3, rng.random(1500) < 0.5
    static = Family(np.array([[0.8], [1.0]]).repeat(1500, 1), np.array([easy, easy | hard], float))
    coin = rng.random(1500) < 0.5
    mixture = Family(np.where(coin, 0.8, 1.0)[None], np.where(coin, easy, easy | hard)[None].astype(float))
    assert gap(mixture, static).low < 0 < gap(mixture, static).high
    needs = hard & ~easy
    reader = Family(np.where(needs, 1.0, 0.8)[None], (easy | hard)[None].astype(float))
    found = gap(reader, static)
    assert found.low > 0.05
    share = needs.mean()
    assert found.value == pytest.approx((easy | hard).mean() - (easy.mean() + share * needs.mean()), abs=1e-6)


def test_no_cheaper_static_program_is_needed() -> None:
    """An agent below the cheapest static program is compared at that one's cost."""
    static = Family(np.ones((1, 100)), np.tile([[1.0, 0.0]], 50))
    cheap = Family(np.full((1, 100), 0.5), np.ones((1, 100)))
    assert gap(cheap, static).value == pytest.approx(0.5)
