"""What other libraries of the field are given: hyperparameters for rl_zoo3, and examples of one file each."""

from __future__ import annotations

import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import yaml

from polar_env import RECORDED

ROOT = Path(__file__).parents[1]
ALGORITHMS = ("ppo", "a2c", "dqn", "ppo_mask")
SEGMENTS = "SkillsSegments-SmolLM2-135M-v0"


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=300,
        env={"PATH": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HOME": str(cwd), "RAY_DEDUP_LOGS": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def needs(module: str, install: str) -> pytest.MarkDecorator:
    top = module.split(".")[0]
    missing = util.find_spec(top) is None or (module != top and util.find_spec("tree") is None)
    return pytest.mark.skipif(missing, reason=f"needs it installed: pip install {install}")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_environment_has_hyperparameters(algorithm: str) -> None:
    """Only a masked algorithm can play where actions are forbidden."""
    settings: dict[str, Any] = yaml.safe_load((ROOT / "train" / "rl_zoo3" / f"{algorithm}.yml").read_text())
    names = {f"{name}-v0" for name in RECORDED}
    assert settings.keys() == (names if algorithm == "ppo_mask" else names - {SEGMENTS})
    assert all(each["policy"] == "MultiInputPolicy" and each["gamma"] == 1.0 for each in settings.values())


@needs("rl_zoo3", "'polar-env[rl]'")
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_rl_zoo3_trains(algorithm: str, tmp_path: Path) -> None:
    masked = algorithm == "ppo_mask"
    name = SEGMENTS if masked else "Words-SmolLM2-135M-v0"
    said = run(
        "-m", "train.zoo" if masked else "rl_zoo3.train", "--algo", algorithm, "--env", name,
        "--gym-packages", "polar_env", "--conf-file", str(ROOT / "train" / "rl_zoo3" / f"{algorithm}.yml"),
        "-n", "1100", "--eval-freq", "-1", "-f", "logs", "--seed", "0", "--device", "cpu", cwd=tmp_path,
    )  # fmt: skip
    assert "Saving to" in said
    assert (tmp_path / "logs" / algorithm / f"{name}_1" / f"{name}.zip").is_file()


@pytest.mark.parametrize("name", ["Skills", "SkillsSegments"])
def test_ppo_in_one_file(name: str, tmp_path: Path) -> None:
    env_id = f"polar_env:{name}-SmolLM2-135M-v0"
    arguments = ["--env-id", env_id, "--total-timesteps", "4096", "--num-envs", "32"]
    last = run(str(ROOT / "examples" / "cleanrl_ppo.py"), *arguments, cwd=tmp_path).splitlines()[-1]
    found = {part.rpartition("=")[0]: float(part.rpartition("=")[2]) for part in last.split(", ")}
    assert found.keys() == {"pass@1", "cost", "best static", "oracle", "score"}
    assert (found["best static"], found["oracle"]) == (0.323, 0.868)  # as docs/environments says
    assert found["score"] == pytest.approx((found["pass@1"] - 0.323) / (0.868 - 0.323), abs=2e-3)


@needs("torchrl", "'polar-env[rl]'")
def test_torchrl(tmp_path: Path) -> None:
    said = run(str(ROOT / "examples" / "torchrl_gymenv.py"), "--steps", "60", cwd=tmp_path)
    assert said.splitlines()[-1].startswith("60 steps, ")


@needs("ray.rllib", "'ray[rllib]'")
def test_rllib(tmp_path: Path) -> None:
    said = run(str(ROOT / "examples" / "rllib_ppo.py"), "--iterations", "1", "--steps", "300", cwd=tmp_path)
    assert "iteration 1: mean return " in said
