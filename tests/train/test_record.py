"""A recording holds what the LLM makes of each pair, goes on where it stopped, and shows agents no answer."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import train.record
from polar_env import tables
from polar_env.errors import FingerprintError, TraceError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Prompt, Question, is_right
from polar_env.runner import Decoding
from polar_env.worlds import LiveWorld
from tests.worlds import world_of
from train.pack import pack
from train.record import measure, read_recording, record, tiles_of
from train.states import record_states
from train.written import best_programs, write_answers

QUESTIONS = [
    *(Question.of(f"Say {n}", "two" if n % 2 else "a", task="words") for n in range(4)),
    Question.of("Which one?", "b", task="choices", choices=("a", "b", "cc")),
]
PROGRAMS = [Program((0, 1, 2, 3)), Program((0, 1, 3)), Program((0, 1, 1, 2, 3)), Program((1, 2))]


@pytest.fixture
def world(tiny_llm: FrozenLLM) -> LiveWorld:
    return world_of(tiny_llm, Prompt(style="qa", max_new_tokens=3))


def test_a_recording_is_what_the_llm_makes_of_each_pair(world: LiveWorld, tmp_path: Path) -> None:
    counted: list[int] = []
    assert record(world, QUESTIONS, PROGRAMS, tmp_path, piece=2, block=3, on_verdicts=counted.append) == 20
    assert counted == [6, 6, 3, 2, 2, 1]  # all questions under the first programs, then under the others
    meta, ids, arrays = read_recording(tmp_path)
    assert meta["programs"] == [str(program) for program in PROGRAMS]
    assert ids == [question.id for question in QUESTIONS]
    pairs = [(question, program) for question in QUESTIONS for program in PROGRAMS]
    verdicts = world.verdicts(pairs)
    assert arrays["right"].ravel().tolist() == [verdict.right for verdict in verdicts]
    assert arrays["log_prob"].ravel() == pytest.approx([verdict.log_prob for verdict in verdicts], abs=1e-4)
    own = world.asks.confidences([(question.ask, program.layers) for question, program in pairs])
    assert arrays["own"].reshape(-1, 3) == pytest.approx(own, abs=1e-4)
    means = world.answers([QUESTIONS[4].ask], PROGRAMS[1])[0].choice_means
    assert arrays["choices"][4, 1] == pytest.approx(means, abs=1e-4)
    assert np.isnan(arrays["choices"][:4]).all()


def test_a_recording_goes_on_where_it_stopped(world: LiveWorld, tmp_path: Path) -> None:
    record(world, QUESTIONS, PROGRAMS, tmp_path / "whole", piece=2)
    assert record(world, QUESTIONS, PROGRAMS, tmp_path / "cut", piece=2, seconds=-1.0) == 0
    record(world, QUESTIONS, PROGRAMS, tmp_path / "cut", piece=2)
    (tmp_path / "cut" / "000-00001.safetensors").unlink()
    with pytest.raises(TraceError, match="lacks 1 of 3 files"):
        read_recording(tmp_path / "cut")
    counted: list[int] = []
    record(world, QUESTIONS, PROGRAMS, tmp_path / "cut", piece=2, on_verdicts=counted.append)
    assert counted == [8]
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "cut" / path.name).read_bytes()
    with pytest.raises(FingerprintError, match="differs in: programs"):
        record(world, QUESTIONS, PROGRAMS[:2], tmp_path / "cut", piece=2)
    other = [replace(QUESTIONS[0], answer="three"), *QUESTIONS[1:]]  # the same ask: its verdicts are others
    with pytest.raises(FingerprintError, match="differs in: questions"):
        record(world, other, PROGRAMS, tmp_path / "cut", piece=2)


def test_states_are_what_agents_see_after_each_layer(world: LiveWorld, tmp_path: Path) -> None:
    counted: list[int] = []
    meta, states = record_states(world, QUESTIONS, tmp_path, piece=2, on_questions=counted.append)
    assert (meta["fingerprint"], states.shape[:2], counted) == (world.llm.fingerprint, (5, 5), [2, 2, 1])
    seen = world.asks.observations([(QUESTIONS[0].ask, (0, 1)), (QUESTIONS[4].ask, (0, 1, 2, 3))])
    assert states[[0, 4], [2, 4]] == pytest.approx(seen, abs=2e-3)
    (tmp_path / "states-00001.safetensors").unlink()
    _, again = record_states(world, QUESTIONS, tmp_path, piece=2, on_questions=counted.append)
    assert (again == states).all()
    assert counted[3:] == [2]
    with pytest.raises(FingerprintError, match="differs in: questions"):
        record_states(world, QUESTIONS[:2], tmp_path, piece=2)


def test_states_of_another_llm_are_not_packed_with_verdicts(world: LiveWorld, tmp_path: Path) -> None:
    questions = [replace(question, split="train") for question in QUESTIONS[:4]]
    record(world, questions, PROGRAMS, tmp_path)
    meta, states = record_states(world, questions, tmp_path)
    about = {"name": "mixed", "sources": ["made"], "licence": "CC0-1.0"}
    assert pack(tmp_path, questions, (meta, states), **about).card.dtype == "float32"
    with pytest.raises(FingerprintError, match="differ from its verdicts in: model, depth"):
        pack(tmp_path, questions, (meta | {"model": "other", "depth": 9}, states), **about)


def test_programs_may_come_later(world: LiveWorld, tmp_path: Path) -> None:
    record(world, QUESTIONS, PROGRAMS, tmp_path / "whole", piece=2, block=2)
    counted: list[int] = []
    for programs in (PROGRAMS[:2], PROGRAMS):
        record(world, QUESTIONS, programs, tmp_path / "grown", piece=2, block=2, on_verdicts=counted.append)
    assert counted == [4, 4, 2] * 2  # nothing again
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "grown" / path.name).read_bytes()
    with pytest.raises(FingerprintError, match="differs in: programs"):  # the last tile would not be the same
        record(world, QUESTIONS, [*PROGRAMS[:3], Program((0, 1))], tmp_path / "grown", piece=2, block=2)


def test_a_disk_that_is_full_keeps_what_is_whole(
    world: LiveWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(world, QUESTIONS, PROGRAMS, tmp_path / "whole", piece=2)
    written, left = tables.write_whole, [2]  # recording.json and a tile

    def write(path: Path, content: bytes) -> None:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        left[0] -= 1
        written(path, content)

    for module in (tables, train.record):
        monkeypatch.setattr(module, "write_whole", write)
    with pytest.raises(OSError, match="No space left"):
        record(world, QUESTIONS, PROGRAMS, tmp_path / "full", piece=2)
    left[0] = 99
    counted: list[int] = []
    record(world, QUESTIONS, PROGRAMS, tmp_path / "full", piece=2, on_verdicts=counted.append)
    assert counted == [8, 4]
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "full" / path.name).read_bytes()


def test_what_agents_see_depends_on_no_answer(world: LiveWorld) -> None:
    other = [replace(question, answer="cc" if question.choices else "another") for question in QUESTIONS]
    seen = []
    for questions in (QUESTIONS, other):
        (tile,) = tiles_of(questions, PROGRAMS, piece=8, block=8)
        seen.append(measure(world, tile))
    for name in ("own", "choices"):
        assert seen[0][name].tobytes() == seen[1][name].tobytes()
    assert (seen[0]["log_prob"] != seen[1]["log_prob"]).any()


def test_what_programs_write_is_kept_token_by_token(world: LiveWorld, tmp_path: Path) -> None:
    counted: list[int] = []
    rows = write_answers(world, QUESTIONS, PROGRAMS[:2], tmp_path, piece=2, on_answers=counted.append)
    assert counted == [4, 4]  # of multiple choice the scores say it all
    again = write_answers(world, QUESTIONS, PROGRAMS[:2], tmp_path, piece=2, on_answers=counted.append)
    assert again.equals(rows)
    assert counted == [4, 4]
    for row in rows.to_pylist():
        (question,) = [each for each in QUESTIONS if each.id == row["question"]]
        (written,) = world.generate([question.ask], Program.parse(row["program"], 4), Decoding(3))
        assert (row["text"], tuple(row["tokens"]), row["ended_by"]) == (
            written.text.strip(),
            written.tokens,
            written.ended_by,
        )
        assert row["log_probs"] == pytest.approx(written.log_probs, abs=1e-4)
        assert row["right"] == is_right(written.text, question)
    more = write_answers(world, QUESTIONS, PROGRAMS[1:3], tmp_path, piece=2, on_answers=counted.append)
    assert counted == [4, 4, 2, 2]  # other programs join; what is there is not written again
    assert more["program"].to_pylist() == [str(program) for program in PROGRAMS[1:3]] * 4
    with pytest.raises(FingerprintError, match="differs in: questions"):
        write_answers(world, QUESTIONS[:3], PROGRAMS, tmp_path)


def test_a_tile_cut_short_is_named(world: LiveWorld, tmp_path: Path) -> None:
    record(world, QUESTIONS, PROGRAMS, tmp_path)
    path = tmp_path / "000-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(TraceError, match=r"000-00000.safetensors is cut short or changed"):
        read_recording(tmp_path)


def test_those_write_that_are_right_most_often_outside_the_test_questions() -> None:
    right = np.array([[0, 0, 1, 1], [0, 1, 1, 0], [0, 1, 0, 0], [1, 0, 0, 1]], bool)
    questions = [Question.of(f"{n}", "1", split="train" if n < 3 else "test") for n in range(4)]
    assert best_programs(right, questions, 2) == [0, 1, 2]
