"""Environments over a recorded world: they keep Gymnasium's contract, and play what the live LLM plays."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import polar_env
from polar_env import RECORDED
from polar_env.actions import Draft, SegmentsLanguage
from polar_env.envs.masked_discrete import MaskedDiscrete
from polar_env.envs.tree import menu_tree, segments_tree
from polar_env.envs.world_env import WorldEnv, WorldVectorEnv
from polar_env.errors import ConfigError, EpisodeError, ForbiddenActionError, UnknownNameError
from polar_env.llm import FrozenLLM
from polar_env.program import Program, single_edits
from polar_env.worlds import LiveWorld, NotRecordedError, RecordedWorld, open_world
from tests.polar_env.test_recorded_world import QUESTIONS, live, recorded
from tests.worlds import world_of

__all__ = ["live", "recorded"]

IDS = [f"polar_env:{name}-v0" for name in RECORDED]


@pytest.mark.parametrize("name", IDS)
def test_checkers_pass(name: str) -> None:
    check_env(gym.make(name).unwrapped)
    check_env_sb3(gym.make(name).unwrapped)
    polar_env.check_vector_env(
        lambda lanes: gym.make_vec(name, lanes),
        lambda: gym.make(name, disable_env_checker=True).unwrapped,
        steps=60,
        tolerance=0.0,
        refuses=ForbiddenActionError if "Segments" in name else None,
    )


@pytest.mark.parametrize("form", ["menu", "segments"])
def test_live_and_recorded_play_the_same_episodes(live: LiveWorld, recorded: RecordedWorld, form: Any) -> None:
    envs = [WorldEnv(recorded, form=form, split=None), WorldEnv(recorded, form=form, split=None, live=live)]
    rng = np.random.default_rng(0)
    for episode in range(100):
        turns = [env.reset(seed=episode) for env in envs]
        over = False
        while not over:
            (ours, info), (theirs, other) = turns
            assert (info["action_mask"] == other["action_mask"]).all()
            for name in ours:
                assert ours[name] == pytest.approx(theirs[name], abs=5e-3)
            action = np.int64(rng.choice(np.flatnonzero(info["action_mask"])))
            stepped = [env.step(action) for env in envs]
            assert stepped[0][1] == stepped[1][1]
            over = stepped[0][2]
            assert over == stepped[1][2]
            turns = [(step[0], step[4]) for step in stepped]
        assert {key: turns[0][1][key] for key in ("program", "right", "question")} == {
            key: turns[1][1][key] for key in ("program", "right", "question")
        }


def test_a_menu_pays_for_layers_that_ran_in_vain(recorded: RecordedWorld) -> None:
    env = WorldEnv(recorded, split=None, look=2, layer_cost=0.4)
    paid = {}
    for action, program in enumerate(recorded.programs):
        env.reset(options={"question": 0})
        _, reward, over, _, info = env.step(np.int64(action))
        assert over
        assert info["program"] == str(program)
        paid[str(program)] = round((float(info["right"]) - reward) / 0.4 * 4)
    assert paid == {"0-3": 4, "0-1 3": 3, "0 1x2 2-3": 5, "0-2": 3, "1-3": 5}  # 0 and 1 ran in vain before 1-3


def test_segments_are_those_of_the_language() -> None:
    """Every path of the tree is one of the language, and no spelling of a recorded program is left out."""
    depth = 6
    programs = [Program.identity(depth), *single_edits(Program.identity(depth)), Program((0, 2, 3, 3, 5))]
    tree, language = segments_tree(programs, depth, [0, 2, 4, 6]), SegmentsLanguage(depth)
    spelt = set()

    def walk(node: int, draft: Draft) -> None:
        assert tree.layers[node] == len(draft.layers)
        assert tree.cursor[node] == draft.cursor
        assert draft.finished == (tree.program[node] >= 0)
        if draft.finished:
            assert programs[tree.program[node]].layers == draft.layers
            spelt.add(draft.layers)
        for action in np.flatnonzero(tree.child[node] >= 0):
            walk(int(tree.child[node, action]), language.apply(draft, int(action)))

    walk(0, Draft())
    for program in programs:
        try:
            actions, node = language.encode(program), 0
        except Exception:
            assert program.layers not in spelt
            continue
        for action in actions:
            node = int(tree.child[node, action])
            assert node >= 0
        assert programs[tree.program[node]] == program


def test_what_is_seen_is_never_later_than_what_ran() -> None:
    world = open_world("skills-smollm2-135m-v0")
    depths = np.array(world.card.depths)
    menu, segments = (
        make(world.programs, 30, world.card.depths) for make in (partial(menu_tree, look=4), segments_tree)
    )
    for tree in (menu, segments):
        assert (depths[tree.seen] <= tree.layers).all()


def test_bad_input(tiny_llm: FrozenLLM, recorded: RecordedWorld) -> None:
    with pytest.raises(UnknownNameError, match="unknown form 'menus'"):
        WorldEnv(recorded, form="menus")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match=r"unknown task 'word'. Did you mean 'words'"):
        WorldEnv(recorded, task="word")
    with pytest.raises(ConfigError, match="look is 1; states are kept after 0, 2, 4 layers"):
        WorldEnv(recorded, look=1)
    with pytest.raises(ConfigError, match="leave out live, or shuffled"):
        WorldEnv(recorded, shuffled=True, live=world_of(tiny_llm, recorded.prompts))
    with pytest.raises(ConfigError, match="layer_cost is -1"):
        WorldEnv(recorded, layer_cost=-1)
    env = WorldVectorEnv(2, recorded)
    with pytest.raises(EpisodeError, match="call reset"):
        env.step(np.zeros(2, np.int64))
    env.reset(seed=0)
    with pytest.raises(ForbiddenActionError, match="lane 1: action 99 is forbidden"):
        env.step(np.array([0, 99]))
    with pytest.raises(ConfigError, match="one integer for each lane"):
        env.step(np.zeros(3, np.int64))
    with pytest.raises(ConfigError, match="was given 3 seeds for 2 lanes"):
        env.reset(seed=[1, 2, 3])
    with pytest.raises(ConfigError, match="question 99 does not exist"):
        WorldEnv(recorded).reset(options={"question": len(QUESTIONS) + 75})


def test_a_draw_after_seeding_fits_an_episode_that_starts_anew(recorded: RecordedWorld) -> None:
    env: Any = WorldEnv(recorded, form="segments", split=None)
    _, info = env.reset(seed=0)
    first = info["action_mask"]
    assert not first.all()
    for seed in range(40):
        env.reset(seed=seed)
        _, _, over, _, info = env.step(env.action_space.sample())
        env.action_space.seed(seed)
        action = int(env.action_space.sample())
        assert first[action]
        assert info["action_mask"][action] or over or not (first & info["action_mask"]).any()


def test_a_draw_after_seeding_fits_where_nothing_of_the_start_is_allowed_now() -> None:
    now, first = np.array([False, False, True]), np.array([True, True, False])
    space = MaskedDiscrete(3, lambda: now, first)
    for seed in range(20):
        space.seed(seed)
        assert first[space.sample()]
        assert space.sample() == 2


@pytest.mark.parametrize("language", ["layers", "segments"])
def test_program_env_plays_a_recorded_world_as_the_llm(live: LiveWorld, recorded: RecordedWorld, language: str) -> None:
    """The same environment on both worlds; on the record the mask leads to recorded programs, and to each of them."""
    envs = [
        polar_env.ProgramEnv(recorded, split=None, language=language),
        polar_env.ProgramEnv(live, QUESTIONS, split=None, language=language),
    ]
    rng = np.random.default_rng(0)
    played = set()
    for episode in range(100):
        infos = [env.reset(seed=episode, options={"question": episode % len(QUESTIONS)})[1] for env in envs]
        over = False
        while not over:
            assert not (infos[0]["action_mask"] & ~infos[1]["action_mask"]).any()
            action = np.int64(rng.choice(np.flatnonzero(infos[0]["action_mask"])))
            stepped = [env.step(action) for env in envs]
            assert stepped[0][1] == stepped[1][1]
            assert stepped[0][2] == stepped[1][2]
            over, infos = stepped[0][2], [step[4] for step in stepped]
        assert {key: infos[0][key] for key in ("program", "right", "question", "identity_right")} == {
            key: infos[1][key] for key in ("program", "right", "question", "identity_right")
        }
        played.add(infos[0]["program"])
    assert played == {str(program) for program in recorded.programs}


def test_program_env_refuses_what_was_not_recorded(recorded: RecordedWorld) -> None:
    env = polar_env.ProgramEnv(recorded, split=None, language="layers")
    env.reset(seed=0)
    with pytest.raises(ForbiddenActionError, match="no recorded program"):
        env.step(np.int64(3))
    with pytest.raises(NotRecordedError):
        polar_env.ProgramEnv(recorded, ["arithmetic"])
    with pytest.raises(ConfigError, match="none of 5 recorded programs"):
        polar_env.ProgramEnv(recorded, split=None, language="layers", max_layers=2)


def test_checkers_pass_on_a_recorded_world(recorded: RecordedWorld) -> None:
    make: Any = partial(polar_env.ProgramEnv, recorded, split=None)
    for _ in range(10):  # the checker's first draw has no seed
        check_env(make())
    check_env_sb3(make())
    polar_env.check_vector_env(
        lambda lanes: polar_env.ProgramVectorEnv(lanes, recorded, split=None), make, steps=40, tolerance=0.0
    )
