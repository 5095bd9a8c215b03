"""What the vector environment takes, refuses and says; that its lanes are n singles is in test_envs.py."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from polar_env.envs import ProgramEnv, ProgramVectorEnv
from polar_env.envs.sb3 import ProgramVecEnv
from polar_env.errors import ConfigError, EpisodeError, ForbiddenActionError, QuestionTooLongError, UnknownNameError
from polar_env.questions import Question
from polar_env.worlds import LiveWorld

ENV_ID = "polar_env:ProgramOfLayers-v0"
STOP = 5


def make(world: LiveWorld, questions: list[Question], lanes: int = 3, **arguments: Any) -> ProgramVectorEnv:
    env = gym.make_vec(ENV_ID, num_envs=lanes, model=world, questions=questions, **arguments)
    assert isinstance(env, ProgramVectorEnv)
    return env


@pytest.mark.parametrize(
    "seed", [np.int64(7), np.int32(7), [7, 8, 9], (7, 8, 9), np.array([7, 8, 9]), [np.int64(7), 8, 9]], ids=repr
)
def test_every_way_to_say_a_seed_gives_the_same_episodes(
    world: LiveWorld, questions: list[Question], seed: Any
) -> None:
    env = make(world, questions)
    expected = [env.reset(seed=7)[1]["question"].tolist(), env.reset()[1]["question"].tolist()]
    assert [env.reset(seed=seed)[1]["question"].tolist(), env.reset()[1]["question"].tolist()] == expected


def test_a_lane_without_a_seed_keeps_its_generator(world: LiveWorld, questions: list[Question]) -> None:
    env = make(world, questions)
    env.reset(seed=7)
    second = env.reset()[1]["question"]
    env.reset(seed=7)
    mixed = env.reset(seed=[7, None, 9])[1]["question"]
    assert mixed[1] == second[1]


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        ([1, 2], r"2 seeds for 3 lanes.*one for each lane"),
        ([1, 2, 3, 4], r"4 seeds for 3 lanes"),
        (-1, r"seed -1 for lane 0.*at least 0"),
        ([0, 1.5, 2], r"seed 1\.5 for lane 1.*integer"),
        ("7", r"seed '7'.*integer"),
    ],
    ids=repr,
)
def test_a_seed_that_cannot_be_is_refused(world: LiveWorld, questions: list[Question], seed: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(world, questions).reset(seed=seed)


def test_a_forbidden_action_names_lane_and_question_and_changes_nothing(
    world: LiveWorld, questions: list[Question]
) -> None:
    env = make(world, questions)
    env.reset(seed=0)
    before = env.episodes
    with pytest.raises(ForbiddenActionError, match=rf"^lane 1 \(question {before[1].question.id}\): .*stop and answer"):
        env.step(np.array([0, STOP, STOP]))
    with pytest.raises(
        ForbiddenActionError, match=rf"^lane 2 \(question {before[2].question.id}\): action -1 does not"
    ):
        env.step(np.array([0, 1, -1]))
    assert env.episodes == before


@pytest.mark.parametrize(
    "actions", [[0, 1], [0, 1, 2, 3], [[0, 1, 2]], 0, [0.0, 1.0, 2.0], ["0", "1", "2"], []], ids=repr
)
def test_step_wants_one_integer_for_each_lane(world: LiveWorld, questions: list[Question], actions: Any) -> None:
    env = make(world, questions)
    env.reset(seed=0)
    with pytest.raises(ConfigError, match=r"one integer for each lane, shape \(3,\)"):
        env.step(np.array(actions))


def test_step_before_reset_is_refused(world: LiveWorld, questions: list[Question]) -> None:
    with pytest.raises(EpisodeError, match="reset"):
        make(world, questions).step(np.array([0, 1, 2]))


def test_a_question_too_long_for_the_model_is_named_when_the_environment_is_made(
    world: LiveWorld, questions: list[Question]
) -> None:
    long = Question.of("What is " + "1 + " * 80 + "1?", "81")
    with pytest.raises(QuestionTooLongError, match=rf"question {long.id} .* context has 256"):
        make(world, [*questions, long])
    assert world.stats.executed_layers == 0


def test_no_lanes_and_an_unknown_autoreset_mode_are_refused(world: LiveWorld, questions: list[Question]) -> None:
    with pytest.raises(ConfigError, match="num_envs is 0"):
        make(world, questions, lanes=0)
    with pytest.raises(UnknownNameError, match="Did you mean 'NextStep'"):
        make(world, questions, autoreset_mode="next_step")


def play_single(world: LiveWorld, questions: list[Question], seed: int) -> ProgramEnv:
    env = gym.make(ENV_ID, model=world, questions=questions).unwrapped
    assert isinstance(env, ProgramEnv)
    env.reset(seed=seed)
    return env


def test_next_step_autoreset_shows_the_end_and_spends_a_step_on_the_reset(
    world: LiveWorld, questions: list[Question]
) -> None:
    """The contract of Gymnasium's own vector environments by default, which RLlib counts on."""
    env = make(world, questions, lanes=2, autoreset_mode=AutoresetMode.NEXT_STEP)
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    singles = [play_single(world, questions, seed) for seed in (3, 4)]
    env.reset(seed=3)
    env.step(np.array([0, 0]))
    singles[0].step(np.int64(0))
    batch, rewards, terminated, _, infos = env.step(np.array([STOP, 1]))
    last, reward, _, _, info = singles[0].step(np.int64(STOP))
    assert terminated.tolist() == [True, False]
    assert rewards[0] == pytest.approx(reward)
    assert "final_obs" not in infos
    assert infos["program"][0] == info["program"]
    np.testing.assert_allclose(batch["hidden"][0], last["hidden"], atol=2e-3)
    batch, rewards, terminated, _, infos = env.step(np.array([-5, 2]))  # whatever a lane that resets is given
    first, info = singles[0].reset()
    assert terminated.tolist() == [False, False]
    assert rewards[0] == 0.0
    assert infos["question"][0] == info["question"]
    assert "program" not in infos
    np.testing.assert_allclose(batch["hidden"][0], first["hidden"], atol=2e-3)


def test_without_autoreset_the_mask_says_which_lanes_start_anew(world: LiveWorld, questions: list[Question]) -> None:
    env = make(world, questions, lanes=2, autoreset_mode="Disabled")
    with pytest.raises(EpisodeError, match=r"lanes \[1\] have no episode yet"):
        env.reset(options={"reset_mask": np.array([True, False])})
    env.reset(seed=3)
    env.step(np.array([0, 0]))
    env.step(np.array([STOP, 1]))
    with pytest.raises(EpisodeError, match=r"lanes \[0\] are over.*reset_mask"):
        env.step(np.array([0, 2]))
    kept = env.episodes[1]
    batch, infos = env.reset(seed=[8, 8], options={"reset_mask": np.array([True, False])})
    assert env.episodes[1] is kept
    assert infos["action_mask"].any(axis=1).all()
    assert infos["question"][1] == kept.question.id
    assert infos["question"][0] == play_single(world, questions, 8).episode.question.id
    assert batch["hidden"].shape == (2, 64)
    for mask in (np.array([1, 0]), np.array([True]), np.array([False, False]), [True, False]):
        with pytest.raises(ConfigError, match=r"reset_mask.*bool.*\(2,\)"):
            env.reset(options={"reset_mask": mask})


def test_a_step_in_which_every_lane_only_resets(world: LiveWorld, questions: list[Question]) -> None:
    env = make(world, questions, lanes=2, autoreset_mode="NextStep", shaping=0.1, relative=True)
    env.reset(seed=0)
    env.step(np.array([0, 0]))
    assert env.step(np.array([STOP, STOP]))[2].all()
    batch, rewards, terminated, _, infos = env.step(np.array([0, 0]))
    assert rewards.tolist() == [0.0, 0.0]
    assert not terminated.any()
    assert batch["program"].sum() == 0
    assert infos["_question"].all()


def test_sb3_wants_same_step_autoreset(world: LiveWorld, questions: list[Question]) -> None:
    with pytest.raises(ConfigError, match="NextStep, SB3 counts on SameStep"):
        ProgramVecEnv(make(world, questions, autoreset_mode="NextStep"))
