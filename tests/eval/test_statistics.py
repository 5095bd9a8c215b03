from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from eval.comparison import ALL_TASKS, NO_DIFFERENCE, compare, compare_with
from eval.statistics import (
    holm,
    interquartile_mean,
    mcnemar,
    paired_difference,
    share,
    smallest_difference,
)

SIMULATIONS = 2000
Verdicts = NDArray[np.bool_]


def evaluations(gain: float, discordant: float, questions: int, seed: int) -> list[tuple[Verdicts, Verdicts]]:
    """Verdicts of an agent and of a baseline in simulated evaluations: they differ on a share of the questions, and the
    agent's share of right answers is larger by a known gain.
    """
    rng = np.random.default_rng(seed)
    won, lost = (discordant + gain) / 2, (discordant - gain) / 2
    counts = rng.multinomial(questions, [won, lost, 0.3, 0.7 - discordant], size=SIMULATIONS)
    ours, theirs = np.array([True, False, True, False]), np.array([False, True, True, False])
    return [(ours.repeat(each), theirs.repeat(each)) for each in counts]


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


def test_paired_bootstrap_is_that_of_resampled_questions() -> None:
    """Drawing counts of +1, 0 and -1 gives the interval that scipy gets from drawing questions."""
    rng = np.random.default_rng(1)
    right, base = rng.random(300) < 0.5, rng.random(300) < 0.4
    drawn = stats.bootstrap(
        (right.astype(float) - base,), np.mean, n_resamples=10_000, method="percentile", rng=rng, batch=500
    ).confidence_interval
    ours = paired_difference(right.tolist(), base.tolist())
    assert (ours.low, ours.high) == pytest.approx((drawn.low, drawn.high), abs=0.006)


def test_mcnemar_counts_discordant_pairs() -> None:
    assert mcnemar([True] * 8 + [False] * 2, [False] * 8 + [True] * 2) == pytest.approx(0.1094, abs=1e-3)
    assert mcnemar([True, False], [True, False]) == 1.0


def test_equal_agents_are_no_difference_in_95_of_100_evaluations() -> None:
    """An agent as good as the static program, which is right on other questions: the word and the interval."""
    compared = [compare(*pair, ("agent", "best-static")) for pair in evaluations(0.0, 0.15, 1500, seed=0)]
    assert np.mean([each.verdict == "no difference" for each in compared]) == pytest.approx(0.95, abs=0.015)
    assert np.mean([each.delta.low <= 0 <= each.delta.high for each in compared]) == pytest.approx(0.95, abs=0.015)


def test_wilson_intervals_hold_the_share_in_95_of_100_evaluations() -> None:
    """Averaged over shares, as the interval of a discrete count is made to be (Agresti and Coull 1998)."""
    rng = np.random.default_rng(4)
    shares = rng.uniform(0.05, 0.95, size=SIMULATIONS)
    intervals = [share(rng.random(200) < each) for each in shares]
    covered = [each.low <= true <= each.high for each, true in zip(intervals, shares, strict=True)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_among_several_agents_and_tasks_a_gain_is_seen_and_little_is_claimed_of_equals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole headline, Holm included: one agent adds 5 points over four tasks, two equal the static program; at most
    one evaluation in 20 claims anything of these two.
    """
    monkeypatch.setattr("gc.collect", lambda: 0)  # statsmodels collects in each correction: most of the test's time
    rng, seen, claimed_of_equals = np.random.default_rng(5), [], []
    gains, tasks = {"adds": 0.05, "equal": 0.0, "equal too": 0.0}, np.repeat(["a", "b", "c", "d"], 375)
    for _ in range(150):
        static = rng.random(1500) < 0.4
        verdicts = {"best-static": static}
        for name, gain in gains.items():
            flips = np.where(static, (0.2 - gain) / 2 / 0.4, (0.2 + gain) / 2 / 0.6)
            verdicts[name] = static ^ (rng.random(1500) < flips)
        rows = pd.concat(
            pd.DataFrame({"method": name, "question_id": range(1500), "task": tasks, "right": right})
            for name, right in verdicts.items()
        )
        compared = compare_with("best-static", rows, list(gains))
        seen.append(compared["adds"][ALL_TASKS].verdict == "adds")
        equals = [each for name in ("equal", "equal too") for each in compared[name].values()]
        claimed_of_equals.append(any(each.verdict != NO_DIFFERENCE for each in equals))
    assert np.mean(seen) >= 0.8
    assert np.mean(claimed_of_equals) <= 0.05 + 2 * (0.05 * 0.95 / len(seen)) ** 0.5


def test_a_gain_of_4_points_is_seen_in_80_of_100_evaluations() -> None:
    pairs = evaluations(0.04, 0.2, 1500, seed=1)
    assert np.mean([compare(*pair, ("agent", "best-static")).verdict == "adds" for pair in pairs]) >= 0.8


def test_the_smallest_difference_is_seen_in_80_of_100_evaluations() -> None:
    for discordant, questions in ((0.1, 1500), (0.3, 200)):
        smallest = smallest_difference(round(discordant * questions), questions)
        pairs = evaluations(smallest, discordant, questions, seed=2)
        assert np.mean([mcnemar(*pair) < 0.05 for pair in pairs]) == pytest.approx(0.8, abs=0.04)


def test_few_questions_show_little() -> None:
    """Six discordant pairs of one kind are the least that a test at 5 % needs."""
    assert smallest_difference(0, 1500) >= 6 / 1500
    assert stats.binomtest(6, 6).pvalue < 0.05 < stats.binomtest(5, 5).pvalue
    assert smallest_difference(2, 6) == 1.0


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_interquartile_mean_leaves_outliers_out() -> None:
    seeds = [0.30, 0.31, 0.32, 0.33, 0.90]
    assert interquartile_mean(seeds).value == pytest.approx(0.32)
    assert interquartile_mean(seeds).low < 0.32 < interquartile_mean(seeds).high
    assert interquartile_mean([0.3] * 5).high == 0.3
    few = interquartile_mean([0.3, 0.4])  # no interval of so few seeds
    assert (few.value, few.percent()) == (pytest.approx(0.35), "35.0")
