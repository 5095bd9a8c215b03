"""Pictures of episodes, and Gymnasium's own recorder of videos."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import RecordVideo

from polar_env.errors import EpisodeError
from polar_env.questions import Question
from polar_env.worlds import LiveWorld

SEGMENTS = "polar_env:SkillsSegments-SmolLM2-135M-v0"


def play(env: gym.Env, episodes: int = 1) -> int:
    """Play episodes at random; returns how many frames a recorder saw."""
    frames = 0
    for episode in range(episodes):
        _, info = env.reset(seed=episode)
        rng, over, frames = np.random.default_rng(episode), False, frames + 1
        while not over:
            _, _, over, _, info = env.step(np.int64(rng.choice(np.flatnonzero(info["action_mask"]))))
            frames += 1
    return frames


@pytest.mark.parametrize("name", [SEGMENTS, "polar_env:Words-SmolLM2-135M-v0"])
def test_a_recorded_world_shows_what_ran(name: str) -> None:
    """What is drawn on the way leads to the program of the end, and is what the observation counts."""
    env = gym.make(name, render_mode="ansi")
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        rng, over = np.random.default_rng(seed), False
        while not over:
            _, glyphs, what = str(env.render()).rsplit("\n", 2)
            shown = [0 if glyph == "·" else 1 if glyph == "█" else int(glyph) for glyph in glyphs.strip("|")]
            assert shown == observation["program"].tolist()
            assert what.endswith("running")
            observation, _, over, _, info = env.step(np.int64(rng.choice(np.flatnonzero(info["action_mask"]))))
        assert f"\n{info['program']} (" in str(env.render())
        assert str(env.render()).endswith("right" if info["right"] else ")")


def test_nothing_is_shown_before_a_reset() -> None:
    with pytest.raises(EpisodeError, match=r"call reset\(\) first"):
        gym.make(SEGMENTS, render_mode="ansi").unwrapped.render()


@pytest.mark.filterwarnings("ignore:.*Overwriting existing videos")
@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "live"])
def test_record_video(recorded: bool, world: LiveWorld, questions: list[Question], tmp_path: Path) -> None:
    """One file for each episode, with a frame for each observation."""
    moviepy = pytest.importorskip("moviepy", reason="needs MoviePy: pip install 'polar-env[rl]'")
    made = {} if recorded else {"model": world, "questions": questions}
    name = SEGMENTS if recorded else "polar_env:ProgramOfLayers-v0"
    env = RecordVideo(gym.make(name, render_mode="rgb_array", **made), str(tmp_path), episode_trigger=lambda _: True)
    played = play(env, 2)
    env.close()
    videos = sorted(tmp_path.glob("*.mp4"))
    assert len(videos) == 2
    frames = 0
    for video in videos:
        with moviepy.VideoFileClip(str(video)) as clip:
            assert clip.fps == 4
            frames += clip.n_frames
    assert frames == played
