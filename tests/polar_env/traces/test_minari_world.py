"""Recorded worlds as Minari data sets: what is stored is what the environment plays, by the policy that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polar_env.cli import main
from polar_env.envs.world_env import WorldEnv
from polar_env.traces.exchange.minari_world import export_world
from tests.recording import part_of_shipped

minari = pytest.importorskip("minari", reason="needs Minari: pip install 'polar-env[minari]'")
WORDS = "words-smollm2-135m-v0"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def env_of(dataset: Any, *, test: bool = False) -> WorldEnv:
    env = dataset.recover_environment(eval_env=test).unwrapped
    assert isinstance(env, WorldEnv)
    return env


@pytest.mark.parametrize("form", ["menu", "segments"])
def test_the_best_programs(form: Any) -> None:
    from polar_env.traces.exchange.minari import replay

    assert export_world(WORDS, f"polar/{form}/best-v0", "best", form) == 476
    dataset = minari.load_dataset(f"polar/{form}/best-v0")
    env = env_of(dataset)
    assert env.spec is not None
    assert env.spec.id == ("Words-SmolLM2-135M-v0" if form == "menu" else "Skills-SmolLM2-135M-v0")
    assert (env.rules.world.card.name, env.rules.world.rows("train").tolist()) == (WORDS, env.rules.rows.tolist())
    test = env_of(dataset, test=True)
    assert test.rules.rows.tolist() == test.rules.world.rows("test").tolist()
    replay(dataset, env)
    returns = np.array([episode.rewards.sum() for episode in dataset.iterate_episodes()])
    right = env.rules.world.arrays["right"][env.rules.rows]
    if form == "menu":
        assert (returns > 0).tolist() == right.any(1).tolist()
    assert minari.get_normalized_score(dataset, returns).mean() == pytest.approx(1, abs=1e-5)
    assert "seen the answers" in dataset.storage.metadata["description"]


def test_programs_are_drawn_uniformly(tmp_path: Path) -> None:
    world = part_of_shipped(tmp_path / "part", 400)
    names = ["polar/first-v0", "polar/second-v0"]
    for name in names:
        export_world(str(tmp_path / "part"), name, per_question=8)
    actions = [
        np.array([episode.actions[0] for episode in minari.load_dataset(name).iterate_episodes()]) for name in names
    ]
    assert (actions[0] == actions[1]).all()  # of one seed
    counts = np.bincount(actions[0], minlength=len(world.programs))
    expected = len(actions[0]) / len(world.programs)
    statistic = ((counts - expected) ** 2 / expected).sum()  # chi-squared of P - 1 degrees of freedom
    assert statistic < len(counts) + 4 * (2 * len(counts)) ** 0.5
    dataset = minari.load_dataset(names[0])
    assert f"each with probability 1 / {len(world.programs)}" in dataset.storage.metadata["description"]
    assert env_of(dataset).rules.world.card.name == "part"


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", "export", WORDS, "--minari", "polar/words/uniform-v0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"dataset": "polar/words/uniform-v0", "episodes": 476}
    for arguments, message in (
        ([WORDS], "there is no name for the data set"),
        ([WORDS, "--minari", "polar/words/uniform-v0"], "Minari has a data set 'polar/words/uniform-v0' already"),
        ([WORDS, "--minari", "no name"], "'no name' names no data set of Minari's; write e.g. polar/mine-v0"),
        (["wrds-smollm2-135m-v0", "--minari", "a-v0"], "Did you mean 'words-smollm2-135m-v0'"),
    ):
        assert main(["record", "export", *arguments]) == 2
        assert message in capsys.readouterr().err
