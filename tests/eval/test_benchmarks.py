"""Benchmarks measure what they say; how fast the machine is, is not a test's business."""

from __future__ import annotations

import time
from collections import Counter

import pytest
import torch

from agents.search.config import MctsConfig
from eval.benchmarks.env import measure_env
from eval.benchmarks.execution import different_programs, measure_execution
from eval.benchmarks.executor import measure_executor, restacked_verdicts
from eval.benchmarks.recorded import measure_recorded
from eval.benchmarks.roofline import Roofline
from eval.benchmarks.rows import measure_rows
from eval.benchmarks.search import measure_search
from eval.benchmarks.timing import time_ratio
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.runner import Verdict
from polar_env.worlds import LiveWorld


def test_a_ratio_is_the_median_over_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only work moves: one round in which the machine was busy changes nothing."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    busy = iter([1.0, 9.0])

    def work() -> None:
        now[0] += 3.0 * next(busy, 1.0)

    def reference() -> None:
        now[0] += 2.0

    assert time_ratio(work, reference, seconds=30.0) == 1.5
    assert now[0] > 30


def test_long_work_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    now, orders = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def takes(name: str, seconds: float) -> None:
        now[0] += seconds
        orders.append(name)

    for seconds, order in ((4.0, ["ours", "theirs", "theirs", "ours"]), (0.4, ["ours", "theirs"])):
        orders.clear()
        assert time_ratio(lambda: takes("ours", 6.0), lambda: takes("theirs", 3.0), seconds) == 2
        assert orders == order


def test_programs_are_different_and_near_the_identity(tiny_llm: FrozenLLM) -> None:
    programs = different_programs(tiny_llm, 32)
    assert len(set(programs)) == 32
    assert all(abs(len(program) - tiny_llm.depth) <= 12 for program in programs)
    assert different_programs(tiny_llm, 32) == programs


def test_the_restacked_models_find_the_same_verdicts(world: LiveWorld, questions: list[Question]) -> None:
    programs = [Program((0, 1, 2, 3)), Program((0, 1, 3)), Program((0, 1, 1, 2, 3))]
    truth = restacked_verdicts(world, questions, programs)
    assert len(truth) == len(questions) * len(programs)
    assert 0 < sum(truth.values()) < len(truth)
    pairs = [(question, program) for question in questions for program in programs]
    found = world.verdicts(pairs)
    assert {(q.id, p): verdict.right for (q, p), verdict in zip(pairs, found, strict=True)} == truth


def test_the_executor_is_measured(world: LiveWorld, questions: list[Question]) -> None:
    notes: list[str] = []
    result = measure_executor(world, questions, programs=12, check=3, note=notes.append).as_json()
    assert result["verdicts"] == 12 * len(questions)
    assert result["checked_verdicts"] == 3 * len(questions)
    assert result["wrong_verdicts"] == 0
    assert 0 < result["roofline_share"] < 1
    assert result["ratio_to_generate"] > 1
    assert result["generate_samples"] == 12


def test_a_wrong_verdict_is_counted(
    world: LiveWorld, questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = world.verdicts
    monkeypatch.setattr(
        world, "verdicts", lambda pairs: [Verdict(not verdict.right, 0.0) for verdict in verdicts(pairs)]
    )
    result = measure_executor(world, questions[:4], programs=2, check=2)
    assert result.wrong_verdicts == result.checked_verdicts == 8


def test_the_roofline_counts_the_products_that_were_done(tiny_llm: FrozenLLM) -> None:
    roofline = Roofline(tiny_llm)
    layer = tiny_llm.layers[0]
    products = sum(module.weight.numel() for module in layer.modules() if isinstance(module, torch.nn.Linear))
    assert roofline.flops(Counter({10: 3, 5: 2})) == 2 * products * (10 * 3 + 5 * 2)
    roofline.measure(Counter({64: 4, 16: 2}))
    assert roofline.rate > 0


def test_a_recorded_world_is_measured() -> None:
    figures = measure_recorded("skills-smollm2-135m-v0", seconds=0.2, ppo_steps=64)
    assert not figures.imports_torch
    assert figures.steps_per_second_64 > 0
    assert figures.open_seconds > 0
    assert figures.ppo_200k_seconds > 0


def test_rows_env_and_search_are_measured(world: LiveWorld, questions: list[Question]) -> None:
    rows = measure_rows(world, questions, seconds=0.01).as_json()
    assert {"speedup_4", "speedup_32", "speedup_256", "few_shot_speedup_32", "few_shot_speedup_256"} <= rows.keys()
    assert all(value > 0 for value in rows.values())
    env = measure_env(world, questions, seconds=0.3).as_json()
    assert env["lanes64_speedup"] > 0
    assert env["lanes64_speedup_cached"] > 0
    assert 0 < env["policy_share"] < 1
    assert 0 < env["policy_share_of_answer"] < 1
    search = measure_search(world, questions, MctsConfig(simulations=4)).as_json()
    assert search["questions"] == len(questions)
    assert 0 < search["roofline_share"] < 1
    assert search["known_per_second"] > 0
    assert search["token_layers"] > search["layer_calls"] > 0


def test_everything_is_measured(world: LiveWorld, questions: list[Question]) -> None:
    notes: list[str] = []
    ends = world.llm.end_tokens
    result = measure_execution(world, questions, seconds=0.01, generations=20, note=notes.append).as_json()
    assert world.llm.end_tokens == ends
    assert set(result["prefill_ratios"]) == {"1 x 64", "8 x 64"}  # what fits the tiny model's context
    assert result["identity_prefill_ratio"] == max(result["prefill_ratios"].values())
    assert result["identity_generate_ratio"] == max(result["generate_ratios"].values())
    assert result["mixed_rows_same_tokens"] > 0.9
    assert result["program_time_excess"] >= result["prefill_time_excess"]
    assert result["few_shot_generate_ratio"] > 0
    assert result["policy_overhead_ratio"] > 0
    assert len(notes) == 2 * 2 + 2 * 3 + 2 * 2 + 5
