"""Scores on a recorded world, against tables that are worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eval.headroom import LearnerScore, headroom, score_learner
from eval.submission import Submission, read_submission, score_submission
from polar_env.errors import ConfigError, FingerprintError, QuestionError, UnknownNameError
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.worlds import NotRecordedError, RecordedWorld, open_world, write_world
from tests.recording import made_world

PROGRAMS = [Program((0, 1, 2, 3)), Program((0, 1, 3)), Program((0, 1, 1, 2, 3)), Program((0, 3))]
RIGHT = np.array([[0, 1, 0, 0], [0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], bool)
"""Right: identity 1 of 5, the second program 3, the third 2; at least one, 4."""
ROWS = np.arange(5)


def world_of(right: np.ndarray, split: str = "test", tasks: str = "a") -> RecordedWorld:
    questions = [Question.of(f"{n}", "1", task=tasks[n % len(tasks)], split=split) for n in range(len(right))]
    return made_world(questions, PROGRAMS, right, codes=np.zeros((len(right), 1, 4), np.float16))


def scored(chosen: list[list[int]], costs: list[float] | None = None) -> LearnerScore:
    world, columns = world_of(RIGHT), np.array(chosen)
    paid = np.broadcast_to(np.array(costs), columns.shape) if costs else world.costs[columns]
    return score_learner(world, ROWS, columns, paid, PROGRAMS[1], seconds=1.0)


def test_zero_is_the_static_program_and_one_the_oracle() -> None:
    assert scored([[1] * 5]).score.value == 0.0
    oracle = scored([[1, 1, 1, 2, 0]])
    assert (oracle.score.value, oracle.pass_at_1, oracle.vs_static.value) == (1.0, 0.8, pytest.approx(0.2))
    assert scored([[0] * 5]).score.value == pytest.approx((0.2 - 0.6) / (0.8 - 0.6))
    assert scored([[1] * 5, [1, 1, 1, 2, 0]]).over_questions.value == pytest.approx(0.5)


def test_aiq_is_the_mean_height_of_the_hull() -> None:
    """Costs run from 0.5, the cheapest program, to 1.25; the static program costs 0.75, and nothing is below it."""
    flat = scored([[1] * 5])
    assert flat.aiq == pytest.approx(0.6 * 2 / 3, abs=0.01)  # 0 on the first third of the grid, then 0.6
    cheap = scored([[1] * 5], costs=[0.5] * 5)  # as right, at the cheapest cost there is
    assert cheap.aiq == pytest.approx(0.6, abs=1e-9)
    dear = scored([[1, 1, 1, 2, 0]], costs=[1.25] * 5)  # from 0.6 at 0.75 up to 0.8 at 1.25, in a line
    assert dear.aiq == pytest.approx(0.7 * 2 / 3, abs=0.01)


def test_headroom_of_a_table_by_hand() -> None:
    found = headroom(world_of(RIGHT), PROGRAMS[1], {"a": PROGRAMS[2]})
    values = (found.identity.value, found.static.value, found.per_task.value, found.oracle.value)
    assert values == pytest.approx((0.2, 0.6, 0.4, 0.8))
    assert found.right_programs == (1.0, 1.0, 2.0)
    with pytest.raises(QuestionError, match="has no validation questions"):
        headroom(world_of(RIGHT), PROGRAMS[1], {}, "validation")


def test_the_oracle_by_chance_forgets_who_answers_what_within_a_task() -> None:
    """Two programs, each right on one of two questions of a task, both on the same one: by chance on both half of the
    time, so 0.75 instead of 0.5; with a task for each question nothing can move.
    """
    right = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool)
    assert headroom(world_of(right), PROGRAMS[0], {}).by_chance == pytest.approx(0.75, abs=0.08)
    assert headroom(world_of(right, tasks="ab"), PROGRAMS[0], {}).by_chance == 0.5


@pytest.fixture
def world(tmp_path: Path) -> RecordedWorld:
    write_world(world_of(RIGHT), tmp_path / "world")
    return open_world(tmp_path / "world")


def handed_in(made_in: RecordedWorld, /, **changes: object) -> Submission:
    chosen = np.array([[1, 1, 1, 2, 0], [1] * 5])
    made = Submission.of_choices(made_in, ROWS, chosen, learner="mine", look=2, seconds=3.0)
    return made.model_copy(update=changes)


def test_a_submission_is_scored_by_its_choices(world: RecordedWorld, tmp_path: Path) -> None:
    handed_in(world).write(tmp_path / "mine.json")
    score = score_submission(read_submission(tmp_path / "mine.json"), world, PROGRAMS[1])
    expected = scored([[1, 1, 1, 2, 0], [1] * 5])
    assert (score.score, score.pass_at_1, score.vs_static) == (expected.score, expected.pass_at_1, expected.vs_static)
    late = score_submission(handed_in(world, look=4), world, PROGRAMS[1])  # all four layers ran before each choice
    assert late.mean_cost > score.mean_cost


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"checksum": "0" * 64}, FingerprintError, r"'mine' chose in 'made' \(0000000000000000\)"),
        ({"world": "other"}, FingerprintError, "Choose again in this world"),
        ({"learned_from": "train+test"}, ConfigError, "learned from train\\+test and is scored on test"),
        ({"choices": {"nobody": ["0-3"]}}, UnknownNameError, "unknown test question 'nobody'"),
        ({"learned_from": "everything"}, UnknownNameError, "unknown split 'everything'"),
        ({"look": 5}, ConfigError, "looks after 5 layers; the LLM has 4"),
        ({"choices": {}}, ConfigError, "chose for 0 of 5 test questions"),
        ({"split": "tset"}, UnknownNameError, "Did you mean 'test'"),
    ],
)
def test_a_submission_that_does_not_fit_is_refused(
    world: RecordedWorld, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        score_submission(handed_in(world, **changes), world, PROGRAMS[1])


def test_choices_must_be_recorded_programs_as_many_for_each_question(world: RecordedWorld) -> None:
    choices = handed_in(world).choices
    first = next(iter(choices))
    with pytest.raises(ConfigError, match=r"with \[1, 2\] seeds"):
        score_submission(handed_in(world, choices=choices | {first: ["0-3"]}), world, PROGRAMS[1])
    with pytest.raises(NotRecordedError, match="no program '0-2'"):
        score_submission(handed_in(world, choices=choices | {first: ["0-2", "0-3"]}), world, PROGRAMS[1])
