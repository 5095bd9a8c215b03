"""Benchmarks measure what they say; how fast the machine is, is not a test's business."""

from __future__ import annotations

import time

import pytest

from eval.benchmarks.execution import different_programs, measure_execution
from eval.benchmarks.timing import time_ratio
from polar_env.llm import FrozenLLM


def test_a_ratio_is_the_median_over_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only work moves: one round in which the machine was busy changes nothing."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    busy = iter([9.0])

    def work() -> None:
        now[0] += 3.0 * next(busy, 1.0)

    def reference() -> None:
        now[0] += 2.0

    assert time_ratio(work, reference, seconds=30.0) == 1.5


def test_programs_are_different_and_near_the_identity(tiny_llm: FrozenLLM) -> None:
    programs = different_programs(tiny_llm, 32)
    assert len(set(programs)) == 32
    assert all(abs(len(program) - tiny_llm.depth) <= 12 for program in programs)
    assert different_programs(tiny_llm, 32) == programs


def test_everything_is_measured(tiny_llm: FrozenLLM) -> None:
    notes: list[str] = []
    ends = tiny_llm.end_tokens
    result = measure_execution(tiny_llm, seconds=0.01, generations=20, note=notes.append).as_json()
    assert tiny_llm.end_tokens == ends
    assert set(result["prefill_ratios"]) == {"1 x 64", "8 x 64"}  # what fits the tiny model's context
    assert result["identity_prefill_ratio"] == max(result["prefill_ratios"].values())
    assert result["identity_generate_ratio"] == max(result["generate_ratios"].values())
    assert result["mixed_rows_same_tokens"] > 0.9
    assert result["program_time_excess"] >= result["prefill_time_excess"]
    assert len(notes) == 2 * 2 + 2 * 2 * 3 + 3
