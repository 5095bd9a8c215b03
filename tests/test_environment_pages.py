"""Every environment over a recorded world has a page in Gymnasium's form, and the code on it runs."""

from __future__ import annotations

import re
from pathlib import Path

import gymnasium as gym
import pytest

from polar_env import RECORDED

PAGES = Path(__file__).parents[1] / "docs" / "environments"
HEADINGS = (
    "Description", "Action Space", "Observation Space", "Rewards", "Starting State", "Episode End", "Arguments",
    "Version History",
)  # fmt: skip


@pytest.mark.parametrize("name", RECORDED)
def test_a_page_says_what_the_environment_is(name: str) -> None:
    page = (PAGES / f"{name}-v0.md").read_text()
    for heading in HEADINGS:
        assert f"\n## {heading}\n" in page
    env = gym.make(f"polar_env:{name}-v0").unwrapped
    assert f"`{env.action_space}`".replace("MaskedDiscrete", "Discrete") in page
    for key, space in env.observation_space.items():  # type: ignore[attr-defined]
        assert f"`{key}` | `[{space.shape[0]}]`" in page
    rules = env.rules  # type: ignore[attr-defined]
    assert f"{len(rules.rows)} train" in page
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, f"{name}-v0.md", "exec"), {})
