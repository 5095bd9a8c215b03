from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from agents.search.config import MctsConfig
from agents.search.lockstep import search
from polar_env.edits import combined
from polar_env.errors import FingerprintError, TraceError
from polar_env.llm import FrozenLLM
from polar_env.program import Program, single_edits
from polar_env.questions import Prompt, Question
from polar_env.traces import NodeRow, TraceSet, VerdictRow
from polar_env.worlds import LiveWorld
from tests.conftest import character_tokenizer, tiny_llama
from tests.worlds import world_of
from train.collect import LocalEngine, search_traces
from train.matrix import MatrixConfig, count_verdicts, race

CONFIG = MctsConfig(simulations=6)


def collected(folder: Path, world: LiveWorld, questions: list[Question], in_flight: int = 4) -> TraceSet:
    traces = TraceSet.create(folder, world, {})
    search_traces(LocalEngine(world), questions, traces, CONFIG, in_flight=in_flight)
    return traces


def facts(traces: TraceSet) -> list[VerdictRow | NodeRow]:
    """All that does not depend on how programs were batched: log-probabilities move in their last digits."""
    return [replace(row, log_prob=0.0) for row in traces.verdict_rows()] + list(traces.node_rows())


def test_search_goes_on_where_it_was(
    tmp_path: Path, tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]
) -> None:
    whole = collected(tmp_path / "whole", world_of(tiny_llm, prompt), questions[:10])
    world = world_of(tiny_llm, prompt)
    traces = TraceSet.create(tmp_path / "parts", world, {})

    def interrupt(_: int) -> None:
        if len(traces.questions_done()) >= 4:
            raise KeyboardInterrupt

    def go_on(**options: object) -> int:
        return search_traces(LocalEngine(world), questions[:10], traces, CONFIG, in_flight=4, **options)  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        go_on(on_verdicts=interrupt)
    assert len(traces.questions_done()) == 4
    assert go_on() == 6
    assert facts(traces) == facts(whole)
    assert go_on() == 0


@pytest.mark.parametrize("in_flight", [1, 4, 16])
def test_traces_are_the_same_however_many_are_in_flight(
    tmp_path: Path, tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question], in_flight: int
) -> None:
    whole = collected(tmp_path / "whole", world_of(tiny_llm, prompt), questions[:6], in_flight=64)
    parts = collected(tmp_path / "parts", world_of(tiny_llm, prompt), questions[:6], in_flight=in_flight)
    assert facts(parts) == facts(whole)
    np.testing.assert_allclose(
        [row.log_prob for row in parts.verdict_rows()], [row.log_prob for row in whole.verdict_rows()], atol=1e-4
    )


def test_nodes_are_what_the_search_counted(tmp_path: Path, world: LiveWorld, questions: list[Question]) -> None:
    traces = collected(tmp_path, world, questions[:2])
    found = search(world, questions[:2], CONFIG)
    rows = {(row.question_id, row.state): row for row in traces.node_rows()}
    for trace in found:
        root = rows[trace.question.id, "0-3"]
        assert root.visits == trace.nodes[0].visits
        assert root.child_visits == [child.visits for child in trace.nodes[0].children]
        assert root.child_values == pytest.approx([child.value for child in trace.nodes[0].children])
        assert root.allowed == len(list(single_edits(Program.identity(4))))
        assert root.prior == pytest.approx(1 / root.allowed)


def test_nodes_without_their_verdicts_are_ignored_and_replaced(
    tmp_path: Path, world: LiveWorld, questions: list[Question]
) -> None:
    """The process was killed between the two files of a shard, or a damaged shard of verdicts was deleted."""
    whole = facts(collected(tmp_path / "whole", world, questions[:4], in_flight=2))
    for lost, kept in ((-1, questions[:2]), (0, questions[2:4])):
        traces = collected(tmp_path / f"cut {lost}", world, questions[:4], in_flight=2)
        traces.verdicts.shards[lost].unlink()
        traces = TraceSet.open(tmp_path / f"cut {lost}")
        assert {row.question_id for row in list(traces.node_rows())} == {question.id for question in kept}
        search_traces(LocalEngine(world), questions[:4], traces, CONFIG, in_flight=3)
        assert facts(traces) == whole


def known(traces: TraceSet) -> set[tuple[str, str]]:
    return {(row.question_id, row.program) for row in list(traces.verdict_rows())}


def test_half_written_shard_is_ignored_and_a_damaged_one_named(
    tmp_path: Path, world: LiveWorld, questions: list[Question]
) -> None:
    traces = collected(tmp_path, world, questions[:4])
    rows = len(list(traces.verdict_rows()))
    (tmp_path / ".shard-00001-0123456789abcdef.parquet.123").write_bytes(b"half")
    assert len(list(TraceSet.open(tmp_path).verdict_rows())) == rows
    shard = traces.verdicts.shards[0]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(TraceError, match=rf"{shard.name} is damaged"):
        list(traces.verdict_rows())


def test_traces_of_another_model_or_prompt_are_refused(
    tmp_path: Path, world: LiveWorld, questions: list[Question]
) -> None:
    collected(tmp_path, world, questions[:2])
    other = world_of(FrozenLLM(tiny_llama(seed=9), character_tokenizer(chat=True), "other"), world.prompts)
    with pytest.raises(FingerprintError, match="are of model 'tiny'"):
        TraceSet.create(tmp_path, other, {})
    elsewhere = world_of(world.llm, Prompt(style="bare"))
    with pytest.raises(FingerprintError, match="under prompt 'qa-1'"):
        TraceSet.create(tmp_path, elsewhere, {})
    TraceSet.create(tmp_path / "searched", elsewhere, {"mcts": {"simulations": 9}})
    before = (tmp_path / "searched" / "traces.json").read_bytes()
    with pytest.raises(FingerprintError, match="simulations: 9 there, 8 here"):
        TraceSet.create(tmp_path / "searched", elsewhere, {"mcts": {"simulations": 8}, "questions": ["others"]})
    assert (tmp_path / "searched" / "traces.json").read_bytes() == before  # what is refused changes nothing
    with pytest.raises(TraceError, match="polar search"):
        TraceSet.open(tmp_path / "nothing")


def test_race_leaves_a_whole_matrix_of_right_verdicts(
    tmp_path: Path, world: LiveWorld, questions: list[Question]
) -> None:
    traces = collected(tmp_path, world, questions[:4])
    config = MatrixConfig(candidates=12, survivors=3, first_questions=4)
    survivors = race(world, questions, traces, config)
    assert survivors[0] == Program.identity(4)
    assert len(survivors) == 4
    matrix = traces.matrix()
    assert set(survivors) <= set(matrix.programs)
    assert matrix.programs[0] == Program.identity(4)
    assert len(matrix.question_ids) == len(questions)
    for column, program in enumerate(matrix.programs):
        expected = [verdict.right for verdict in world.verdicts([(question, program) for question in questions])]
        ids = [question.id for question in questions]
        assert [matrix.right[matrix.question_ids.index(i), column] for i in ids] == expected
    rows = len(list(traces.verdict_rows()))
    assert race(world, questions, traces, config) == survivors
    assert len(list(traces.verdict_rows())) == rows  # run again, nothing is executed twice


@pytest.mark.parametrize(
    "config",
    [
        MatrixConfig(candidates=12, survivors=3, first_questions=4),
        MatrixConfig(candidates=500, survivors=3, first_questions=2),
        MatrixConfig(survivors=2, first_questions=50),
        MatrixConfig(survivors=4, first_questions=4, combine=4, grow=1),
    ],
)
def test_verdicts_of_a_race_are_counted_before_it(
    tmp_path: Path, world: LiveWorld, questions: list[Question], config: MatrixConfig
) -> None:
    traces = TraceSet.create(tmp_path, world, {})
    race(world, questions, traces, config, held_out=questions[:2])
    edits = len(list(single_edits(world.identity)))
    asked = len(traces.table())
    assert asked <= count_verdicts(config, len(questions), 2, edits) <= 1.3 * asked
    assert count_verdicts(config, 0, 2, edits) == 0


def test_survivors_are_combined(tmp_path: Path, world: LiveWorld, questions: list[Question]) -> None:
    traces = TraceSet.create(tmp_path, world, {})
    alone = race(world, questions, traces, MatrixConfig(survivors=8, first_questions=4))
    together = race(world, questions, traces, MatrixConfig(survivors=8, first_questions=4, combine=8))
    pairs = {combined(a, b, 4) for a in alone[1:] for b in alone[1:]} - {None}
    tried = {program for _, program in known(traces)}
    assert len({str(program) for program in pairs} & tried - {str(program) for program in alone}) > 3
    assert set(together[1:]) <= pairs | set(alone)


def test_pandas_and_datasets_read_the_shards(
    tmp_path: Path, world: LiveWorld, questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the documentation shows it."""
    traces = collected(tmp_path, world, questions[:3])
    shards = sorted(tmp_path.glob("shard-*.parquet"))
    frame = pd.concat(pd.read_parquet(shard) for shard in shards)
    assert len(frame) == len(list(traces.verdict_rows())) == 3 * (CONFIG.simulations + 1)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    files = [str(shard) for shard in shards]
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.to_pandas().equals(frame.reset_index(drop=True))
    assert (frame["cost"] == frame["layers"] / 4).all()
    assert set(frame["split"]) <= {"train", "validation", "test"}


def test_one_process_appends_at_a_time(tmp_path: Path, tiny_llm: FrozenLLM) -> None:
    world = world_of(tiny_llm, Prompt(style="bare"))
    first = TraceSet.create(tmp_path, world, {})
    before = (tmp_path / "traces.json").read_bytes()
    with pytest.raises(TraceError, match="another process is appending"):
        TraceSet.create(tmp_path, world, {"questions": ["others"]})
    assert (tmp_path / "traces.json").read_bytes() == before
    del first
    TraceSet.create(tmp_path, world, {})


def test_what_the_work_was_is_told_or_said_to_be_damaged(tmp_path: Path, tiny_llm: FrozenLLM) -> None:
    traces = TraceSet.create(tmp_path, world_of(tiny_llm, Prompt(style="bare")), {})
    assert traces.work == {}
    for _ in range(2):
        traces.add_work(simulations=1, asked_tokens=6, executed_tokens=2, layer_executions=4, seconds=0.5)
    assert traces.work["simulations"] == 2
    assert traces.work["sharing_factor"] == 3.0
    path = tmp_path / "work.json"
    for damage in (path.read_text().replace("asked", "aksed"), "{", "[]"):
        path.write_text(damage)
        with pytest.raises(TraceError, match=r"work\.json is damaged .*delete it"):
            _ = traces.work


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace('"tiny"', '"huge"'), "does not match its checksum"),
        (lambda text: text.replace('"prompts"', '"promts"'), "is damaged"),
        (lambda text: text[:-2], "is damaged"),
        (lambda text: text.replace('"schema_version": 3', '"schema_version": 1'), "trace schema 1"),
    ],
)
def test_metadata_that_was_changed_is_refused(
    tmp_path: Path, world: LiveWorld, damage: Callable[[str], str], message: str
) -> None:
    traces = TraceSet.create(tmp_path, world, {})
    path = traces.folder / "traces.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises((TraceError, FingerprintError), match=message):
        TraceSet.open(tmp_path)


def test_a_set_remembers_all_of_its_questions(tmp_path: Path, tiny_llm: FrozenLLM) -> None:
    world = world_of(tiny_llm, Prompt(style="bare"))
    TraceSet.create(tmp_path, world, {"questions": ["a"]})
    TraceSet.create(tmp_path, world, {"questions": ["b"], "mcts": {"simulations": 3}, "seed": 1})
    assert TraceSet.open(tmp_path).meta["config"] == {"questions": ["a", "b"], "mcts": {"simulations": 3}, "seed": 1}
