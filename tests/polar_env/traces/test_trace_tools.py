from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from polar_env.errors import FingerprintError, TraceError
from polar_env.questions import Prompt, Question
from polar_env.traces import TraceSet
from polar_env.traces.check import check_traces
from polar_env.traces.describe import describe
from polar_env.traces.merge import merge
from polar_env.worlds import LiveWorld
from tests.polar_env.traces.test_traces import collected, facts
from tests.worlds import world_of


def test_a_whole_set_is_described_and_has_no_problems(
    tmp_path: Path, world: LiveWorld, questions: list[Question]
) -> None:
    traces = collected(tmp_path, world, questions[:3])
    told = describe(traces)
    assert told["trees"] == told["questions"] == 3
    assert told["verdicts"] == 3 * 7
    assert told["bytes"] == sum(path.stat().st_size for path in tmp_path.glob("*.parquet"))
    assert check_traces(traces) == []


def test_every_flipped_byte_is_found(tmp_path: Path, world: LiveWorld, questions: list[Question]) -> None:
    traces = collected(tmp_path, world, questions[:2])
    for table in (traces.verdicts, traces.nodes):
        shard = table.shards[0]
        whole = shard.read_bytes()
        for place in range(0, len(whole), len(whole) // 12):
            content = bytearray(whole)
            content[place] ^= 0x10
            shard.write_bytes(content)
            problems = check_traces(traces)
            assert any(shard.name in problem and "damaged" in problem for problem in problems)
        shard.write_bytes(whole)
    assert check_traces(traces) == []


def test_rows_that_cannot_be_are_named(tmp_path: Path, world: LiveWorld, questions: list[Question]) -> None:
    traces = collected(tmp_path, world, questions[:2])
    row = next(iter(traces.verdict_rows()))
    traces.append([replace(row, program="0-9"), replace(row, layers=9), replace(row, right=not row.right)])
    (tmp_path / "shard-00009.parquet").write_bytes(b"")
    problems = "\n".join(check_traces(traces))
    for expected in ("layer 4 is out of range", "the row says 9", "right in one row and wrong", "no shard of this"):
        assert expected in problems


def test_merged_sets_hold_what_both_held(tmp_path: Path, world: LiveWorld, questions: list[Question]) -> None:
    first = collected(tmp_path / "a", world, questions[:3])
    second = collected(tmp_path / "b", world, questions[2:5])
    merged, counts = merge([first, second], tmp_path / "c")
    assert counts == {"verdicts": 5 * 7, "trees_left_out": 1, "disagreements": 0}
    assert facts(merged) == facts(collected(tmp_path / "d", world, questions[:5]))
    assert check_traces(merged) == []
    assert merged.work["simulations"] == first.work["simulations"] + second.work["simulations"]
    with pytest.raises(TraceError, match="holds a trace set already"):
        merge([first], tmp_path / "c")
    other = TraceSet.create(tmp_path / "e", world_of(world.llm, Prompt(style="bare")), {})
    with pytest.raises(FingerprintError, match="differ in prompt"):
        merge([first, other], tmp_path / "f")


def test_of_two_verdicts_on_one_program_the_first_set_s_stands(
    tmp_path: Path, world: LiveWorld, questions: list[Question]
) -> None:
    """A race there and a tree here, which disagree."""
    tree = collected(tmp_path / "a", world, questions[:1])
    raced = TraceSet.create(tmp_path / "b", world, {})
    row = next(row for row in tree.verdict_rows() if row.order == 1)
    raced.append([replace(row, stage="matrix", order=0, right=not row.right)])
    merged, counts = merge([raced, tree], tmp_path / "c")
    assert counts["disagreements"] == 1
    assert check_traces(merged) == []
    assert {r.right for r in merged.verdict_rows() if r.program == row.program} == {not row.right}


def test_a_merge_that_fails_leaves_nothing(tmp_path: Path, world: LiveWorld, questions: list[Question]) -> None:
    first, second = (collected(tmp_path / name, world, questions[:1]) for name in "ab")
    second.verdicts.shards[0].write_bytes(b"")
    with pytest.raises(TraceError, match="is damaged"):
        merge([first, second], tmp_path / "c" / "traces")
    assert list((tmp_path / "c").iterdir()) == []
