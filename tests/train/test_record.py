"""A recording holds what the LLM makes of each pair, goes on where it stopped, and shows agents no answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from polar_env.errors import FingerprintError
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Prompt, Question
from polar_env.worlds import LiveWorld
from tests.worlds import world_of
from train.record import measure, read_recording, record

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
    assert record(world, QUESTIONS, PROGRAMS, tmp_path, piece=2, on_verdicts=counted.append) == 5
    assert counted == [8, 8, 4]
    meta, ids, arrays = read_recording(tmp_path)
    assert meta["programs"] == [str(program) for program in PROGRAMS]
    assert ids == [question.id for question in QUESTIONS]
    pairs = [(question, program) for question in QUESTIONS for program in PROGRAMS]
    verdicts = world.verdicts(pairs)
    assert arrays["right"].ravel().tolist() == [verdict.right for verdict in verdicts]
    assert arrays["log_prob"].ravel() == pytest.approx([verdict.log_prob for verdict in verdicts], abs=1e-4)
    own = world.asks.confidences([(question.ask, program.layers) for question, program in pairs])
    assert arrays["own"].reshape(-1, 3) == pytest.approx(own, abs=1e-4)
    states = world.asks.observations([(QUESTIONS[0].ask, (0, 1)), (QUESTIONS[4].ask, (0, 1, 2, 3))])
    assert arrays["states"][[0, 4], [2, 4]] == pytest.approx(states, abs=2e-3)
    means = world.answers([QUESTIONS[4].ask], PROGRAMS[1])[0].choice_means
    assert arrays["choices"][4, 1] == pytest.approx(means, abs=1e-4)
    assert np.isnan(arrays["choices"][:4]).all()


def test_a_recording_goes_on_where_it_stopped(world: LiveWorld, tmp_path: Path) -> None:
    record(world, QUESTIONS, PROGRAMS, tmp_path / "whole", piece=2)
    assert record(world, QUESTIONS, PROGRAMS, tmp_path / "cut", piece=2, seconds=-1.0) == 0
    record(world, QUESTIONS, PROGRAMS, tmp_path / "cut", piece=2)
    (tmp_path / "cut" / "00001.safetensors").unlink()
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


def test_what_agents_see_depends_on_no_answer(world: LiveWorld) -> None:
    other = [replace(question, answer="cc" if question.choices else "another") for question in QUESTIONS]
    seen = []
    for questions in (QUESTIONS, other):
        with world.from_nothing():
            seen.append(measure(world, questions, PROGRAMS, choices=3))
    for name in ("own", "states", "choices"):
        assert seen[0][name].tobytes() == seen[1][name].tobytes()
    assert (seen[0]["log_prob"] != seen[1]["log_prob"]).any()
