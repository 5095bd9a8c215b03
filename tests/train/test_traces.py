from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from agents.mcts import MctsConfig
from polar_env.errors import FingerprintError, TraceError
from polar_env.executor import Executor
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Prompt, Question
from tests.conftest import character_tokenizer, tiny_llama
from train.collect import RaceConfig, race, search_traces
from train.traces import TraceSet

CONFIG = MctsConfig(simulations=6)


def collected(folder: Path, executor: Executor, questions: list[Question], in_flight: int = 4) -> TraceSet:
    traces = TraceSet.create(folder, executor, {})
    search_traces(executor, questions, traces, CONFIG, in_flight=in_flight)
    return traces


def by_question(traces: TraceSet) -> dict[tuple[str, str], tuple[bool, int]]:
    return {(row["question_id"], row["program"]): (row["right"], row["visits"]) for row in traces.rows()}


def test_search_goes_on_where_it_was(
    tmp_path: Path, tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question]
) -> None:
    whole = collected(tmp_path / "whole", Executor(tiny_llm, prompt), questions[:10])
    executor = Executor(tiny_llm, prompt)
    traces = TraceSet.create(tmp_path / "parts", executor, {})

    def interrupt(_: int) -> None:
        if len(traces.questions_done("tree")) >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_traces(executor, questions[:10], traces, CONFIG, in_flight=4, on_progress=interrupt)
    assert len(traces.questions_done("tree")) == 4
    assert len(traces.questions_done("unfinished")) == 4  # what their trees had found is kept, too
    assert search_traces(executor, questions[:10], traces, CONFIG, in_flight=4) == 6
    assert by_question(traces) == by_question(whole)
    assert search_traces(executor, questions[:10], traces, CONFIG) == 0


def test_half_written_shard_is_ignored_and_a_damaged_one_named(
    tmp_path: Path, executor: Executor, questions: list[Question]
) -> None:
    traces = collected(tmp_path, executor, questions[:4])
    rows = len(traces.rows())
    (tmp_path / ".shard-00001.parquet.123").write_bytes(b"half")
    assert len(TraceSet.open(tmp_path).rows()) == rows
    (tmp_path / "shard-00001.parquet").write_bytes(b"not parquet")
    with pytest.raises(TraceError, match=r"shard-00001\.parquet is damaged"):
        traces.rows()


def test_traces_of_another_model_or_prompt_are_refused(
    tmp_path: Path, executor: Executor, questions: list[Question]
) -> None:
    collected(tmp_path, executor, questions[:2])
    other = Executor(FrozenLLM(tiny_llama(seed=9), character_tokenizer(chat=True), "other"), executor.prompt)
    with pytest.raises(FingerprintError, match="are of model 'tiny'"):
        TraceSet.create(tmp_path, other, {})
    elsewhere = Executor(executor.llm, Prompt(style="bare"))
    with pytest.raises(FingerprintError, match="under prompt 'qa-1'"):
        TraceSet.create(tmp_path, elsewhere, {})
    with pytest.raises(TraceError, match="polar search"):
        TraceSet.open(tmp_path / "nothing")


def test_race_leaves_a_whole_matrix_of_right_verdicts(
    tmp_path: Path, executor: Executor, questions: list[Question]
) -> None:
    traces = collected(tmp_path, executor, questions[:4])
    config = RaceConfig(candidates=12, survivors=3, first_questions=4)
    survivors = race(executor, questions, traces, config)
    assert survivors[0] == Program.identity(4)
    assert len(survivors) == 4
    matrix = traces.matrix()
    assert set(survivors) <= set(matrix.programs)
    assert matrix.programs[0] == Program.identity(4)
    assert len(matrix.question_ids) == len(questions)
    for column, program in enumerate(matrix.programs):
        expected = [verdict.right for verdict in executor.verdicts([(question, program) for question in questions])]
        ids = [question.id for question in questions]
        assert [matrix.right[matrix.question_ids.index(i), column] for i in ids] == expected
    rows = len(traces.rows())
    assert race(executor, questions, traces, config) == survivors
    assert len(traces.rows()) == rows  # run again, nothing is executed twice


def test_pandas_reads_the_shards(tmp_path: Path, executor: Executor, questions: list[Question]) -> None:
    traces = collected(tmp_path, executor, questions[:3])
    frame = pd.concat(pd.read_parquet(shard) for shard in sorted(tmp_path.glob("shard-*.parquet")))
    assert len(frame) == len(traces.rows()) == 3 * (CONFIG.simulations + 1)
    assert (frame["cost"] == frame["layers"] / 4).all()
    assert set(frame["split"]) <= {"train", "validation", "test"}
