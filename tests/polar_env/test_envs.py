from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import polar_env
from polar_env.envs.sb3 import ProgramVecEnv
from polar_env.errors import ConfigError, EpisodeError, ForbiddenActionError, UnknownNameError
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.worlds import LiveWorld
from tests.worlds import world_of

ENV_ID = "polar_env:ProgramOfLayers-v0"
VARIANTS: list[dict[str, Any]] = [
    {"language": "layers"},
    {"language": "segments"},
    {"language": "layers", "window": 1, "max_layers": 5},
    {"language": "segments", "observe": "question"},
    {"language": "layers", "relative": True, "shaping": 0.1},
]


def make(world: LiveWorld, questions: list[Question], **arguments: Any) -> polar_env.ProgramEnv:
    env = gym.make(ENV_ID, model=world, questions=questions, **arguments).unwrapped
    assert isinstance(env, polar_env.ProgramEnv)
    return env


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("check", [lambda env: check_env(env, skip_render_check=False), check_env_sb3])
def test_checkers_find_nothing(
    world: LiveWorld, questions: list[Question], variant: dict[str, Any], check: Any
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(make(world, questions, **variant, render_mode="rgb_array"))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_same_seed_same_episode(world: LiveWorld, questions: list[Question], variant: dict[str, Any]) -> None:
    def play() -> list[Any]:
        env = make(world_of(world.llm, world.prompts), questions, **variant)
        observation, info = env.reset(seed=7)
        env.action_space.seed(7)
        record: list[Any] = [observation["hidden"], info["question"]]
        done = False
        while not done:
            observation, reward, done, _, info = env.step(env.action_space.sample())
            record += [observation["hidden"], reward, info.get("program")]
        return record

    for first, second in zip(play(), play(), strict=True):
        np.testing.assert_equal(first, second)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_lanes_equal_single_environments(world: LiveWorld, questions: list[Question], variant: dict[str, Any]) -> None:
    """n lanes are n singles, step by step; arrays are fresh; masks are never empty; autoreset is same-step."""
    lanes = gym.make_vec(ENV_ID, num_envs=5, model=world_of(world.llm, world.prompts), questions=questions, **variant)
    singles = [make(world, questions, **variant) for _ in range(5)]
    batch, infos = lanes.reset(seed=11)
    alone = [env.reset(seed=11 + lane) for lane, env in enumerate(singles)]
    rng = np.random.default_rng(0)
    previous: dict[str, Any] = {}
    for _ in range(60):
        masks = infos["action_mask"]
        assert masks.any(axis=1).all()
        for lane, (observation, info) in enumerate(alone):
            np.testing.assert_array_equal(masks[lane], info["action_mask"])
            for name, values in observation.items():
                np.testing.assert_allclose(batch[name][lane], values, atol=2e-3)
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])
        previous = batch
        kept = copy.deepcopy(previous)
        batch, rewards, terminated, truncated, infos = lanes.step(actions)
        for name, values in kept.items():  # what was handed out before must not change
            np.testing.assert_array_equal(previous[name], values)
        assert not truncated.any()
        for lane, env in enumerate(singles):
            observation, reward, done, _, info = env.step(actions[lane])
            assert rewards[lane] == pytest.approx(reward, abs=1e-4)
            assert terminated[lane] == done
            if done:
                assert infos["final_info"]["program"][lane] == info["program"]
                np.testing.assert_allclose(infos["final_obs"][lane]["hidden"], observation["hidden"], atol=2e-3)
                observation, info = env.reset()
            alone[lane] = (observation, info)


def test_reward_is_correctness_minus_cost(world: LiveWorld, questions: list[Question]) -> None:
    env = make(world, questions, layer_cost=0.2)
    for index in range(len(questions)):
        env.reset(options={"question": index})
        total = 0.0
        for action in (0, 1, 3, 5):
            _, reward, done, _, info = env.step(action)
            total += reward
        verdict = world.verdicts([(questions[index], Program((0, 1, 3)))])[0]
        assert done
        assert info["program"] == "0-1 3"
        assert info["layers"] == 3
        assert info["right"] == verdict.right
        assert total == pytest.approx(float(verdict.right) - 0.2 * 3 / 4)
        assert total == pytest.approx(env.episode.ret)


def test_relative_reward_and_shaping_leave_the_order_of_programs(world: LiveWorld, questions: list[Question]) -> None:
    def ret(actions: tuple[int, ...], **variant: Any) -> float:
        env = make(world, questions, **variant)
        env.reset(options={"question": 3})
        return sum(float(env.step(np.int64(action))[1]) for action in actions)

    plans = [(0, 1, 2, 3, 5), (0, 1, 3, 5), (2, 5)]
    plain = [ret(plan) for plan in plans]
    identity = world.verdicts([(questions[3], Program.identity(4))])[0].right
    assert [ret(plan, relative=True) for plan in plans] == pytest.approx([value - identity for value in plain])
    assert [ret(plan, shaping=0.3) for plan in plans] == pytest.approx(plain, abs=1e-4)


def test_observation_counts_executions(world: LiveWorld, questions: list[Question]) -> None:
    env = make(world, questions)
    env.reset(options={"question": 0})
    for action in (0, 1, 4):
        observation, *_ = env.step(action)
    assert observation["program"].tolist() == [2, 2, 0, 0]
    assert observation["cursor"].tolist() == [0.5]
    assert observation["budget"].tolist() == [0.5]


def test_typed_errors(world: LiveWorld, questions: list[Question]) -> None:
    env = make(world, questions)
    with pytest.raises(EpisodeError, match="reset"):
        env.step(0)
    env.reset(seed=0)
    with pytest.raises(ForbiddenActionError, match="stop and answer"):
        env.step(5)
    with pytest.raises(ForbiddenActionError, match="action 6 does not exist"):
        env.step(6)
    env.step(0)
    env.step(5)
    with pytest.raises(EpisodeError, match="over"):
        env.step(0)
    with pytest.raises(ConfigError, match="question 99 does not exist"):
        env.reset(options={"question": 99})
    with pytest.raises(UnknownNameError, match="Did you mean 'layers'"):
        make(world, questions, language="layer")
    with pytest.raises(ConfigError, match="no questions"):
        make(world, [])


def test_render_shows_what_ran(world: LiveWorld, questions: list[Question]) -> None:
    env = make(world, questions, render_mode="ansi")
    env.reset(options={"question": 0})
    for action in (0, 1, 1, 3):
        env.step(action)
    assert "|█2·█|" in str(env.render())
    assert "running" in str(env.render())
    env.step(5)
    assert ("right" in str(env.render())) != ("wrong" in str(env.render()))
    assert f"answered {env.rules.answer_text(env.episode)!r}" in str(env.render())
    picture = make(world, questions, render_mode="rgb_array")
    picture.reset(seed=0)
    blank = picture.render()
    picture.step(0)
    drawn = picture.render()
    assert isinstance(blank, np.ndarray)
    assert isinstance(drawn, np.ndarray)
    assert drawn.dtype == np.uint8
    assert (blank != drawn).any()


def test_action_space_does_not_drag_the_model_into_a_pickle(world: LiveWorld, questions: list[Question]) -> None:
    env = make(world, questions)
    assert len(pickle.dumps(env.action_space)) < 2000
    assert copy.deepcopy(env.action_space) == env.action_space


def test_sb3_adapter_follows_the_vec_env_contract(world: LiveWorld, questions: list[Question]) -> None:
    lanes = polar_env.ProgramVectorEnv(3, world, questions)
    env = ProgramVecEnv(lanes)
    env.seed(5)
    observation = env.reset()
    assert isinstance(observation, dict)
    assert observation["hidden"].shape == (3, 64)
    assert env.has_attr("action_masks")
    ends = 0
    rng = np.random.default_rng(1)
    totals, lengths = np.zeros(3), np.zeros(3, int)
    for _ in range(40):
        masks = np.stack(env.env_method("action_masks"))
        _, rewards, dones, infos = env.step(np.array([rng.choice(np.flatnonzero(m)) for m in masks]))
        assert rewards.dtype == np.float32
        totals += rewards
        lengths += 1
        for lane in np.flatnonzero(dones):
            ends += 1
            assert infos[lane]["terminal_observation"]["hidden"].shape == (64,)
            assert infos[lane]["TimeLimit.truncated"] is False
            assert infos[lane]["episode"]["r"] == pytest.approx(totals[lane], abs=1e-4)
            assert infos[lane]["episode"]["l"] == lengths[lane]
            assert "program" in infos[lane]
            totals[lane], lengths[lane] = 0, 0
        assert all("program" not in infos[lane] for lane in np.flatnonzero(~dones))
    assert ends > 3
