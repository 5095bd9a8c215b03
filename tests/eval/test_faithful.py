"""A record is compared with the LLM, and every difference is seen."""

from __future__ import annotations

import numpy as np
import pytest

from eval.faithful import compare_with_live, faithfulness_table, unstable_verdicts
from polar_env.llm import FrozenLLM
from polar_env.program import Program
from polar_env.questions import Prompt, Question
from polar_env.worlds import LiveWorld, RecordedWorld, Unstable
from tests.recording import recorded_world
from tests.worlds import world_of

PROGRAMS = [Program((0, 1, 2, 3)), Program((0, 1, 3)), Program((1, 2, 3))]
QUESTIONS = [Question.of(f"Say {n}", "a", split=("train", "validation", "test")[n % 3]) for n in range(12)]


@pytest.fixture(scope="module")
def live(tiny_llm: FrozenLLM) -> LiveWorld:
    return world_of(tiny_llm, Prompt(style="qa", max_new_tokens=3))


@pytest.fixture(scope="module")
def recorded(live: LiveWorld, tmp_path_factory: pytest.TempPathFactory) -> RecordedWorld:
    return recorded_world(live, QUESTIONS, PROGRAMS, tmp_path_factory.mktemp("recording"), components=3)


def changed(world: RecordedWorld, **arrays: np.ndarray) -> RecordedWorld:
    return RecordedWorld(world.card, world.questions, world.arrays | arrays, world.reduction)


def test_a_faithful_record_agrees(live: LiveWorld, recorded: RecordedWorld) -> None:
    found = compare_with_live(recorded, live, pairs=99)
    assert (found.verdicts.value, found.verdicts.count) == (1.0, 36)
    assert max(found.log_prob, found.confidence, found.states) < 0.02
    assert "| verdicts that are the same % | 100.0" in faithfulness_table(found).markdown()


def test_every_difference_is_seen(live: LiveWorld, recorded: RecordedWorld) -> None:
    right = recorded.arrays["right"].copy()
    right[0, :] = ~right[0, :]
    found = compare_with_live(changed(recorded, right=right), live, pairs=36)
    assert found.verdicts.value == pytest.approx(33 / 36)
    own = recorded.arrays["own"].copy()
    own[3, 2, 0] += 0.25
    assert compare_with_live(changed(recorded, own=own), live, 36).confidence == pytest.approx(0.25, abs=0.01)
    codes = recorded.arrays["codes"] + np.float16(np.abs(recorded.arrays["codes"]).max())
    assert compare_with_live(changed(recorded, codes=codes), live, 36).states > 0.4
    log_prob = recorded.arrays["log_prob"] + np.float16(1)
    assert compare_with_live(changed(recorded, log_prob=log_prob), live, 36).log_prob == pytest.approx(1, abs=0.05)


def test_unstable_verdicts_are_counted(live: LiveWorld, recorded: RecordedWorld) -> None:
    right = recorded.arrays["right"].copy()
    assert unstable_verdicts(right, QUESTIONS, PROGRAMS, live, 99) == Unstable(pairs=36, changed=0)
    right[:2] = ~right[:2]
    assert unstable_verdicts(right, QUESTIONS, PROGRAMS, live, 99) == Unstable(pairs=36, changed=6)
    assert unstable_verdicts(right, QUESTIONS, PROGRAMS, live, 10).pairs == 10
