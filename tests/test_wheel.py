"""The wheel holds all that commands need: it is installed into an environment of its own and used from elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("polar_env", "agents", "train", "eval")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the sources: a build leaves files beside what it builds, and old ones would join it."""
    folder = tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / "source" / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", folder, folder / "source"], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment with the wheel; its dependencies are those that run the tests."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    install = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet", "--no-index"]
    subprocess.run([*install, "--no-deps", wheel], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    # A path in a .pth file does not have its own .pth files read, so a checkout that is installed there stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def start(installed: Path, folder: Path, command: str, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command_line = [installed / command, *arguments]
    done = subprocess.run(command_line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    files = {path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()}
    expected = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert sorted(expected - held) == []
    assert sorted(held - expected) == []


def test_the_commands_work_from_elsewhere(installed: Path, tmp_path: Path) -> None:
    assert "usage: polar COMMAND" in start(installed, tmp_path, "polar", "--help")
    assert "skills" in start(installed, tmp_path, "polar", "agents", "list")
    shown = start(installed, tmp_path, "polar", "eval", "--agent", "skills", "--world", "skills-smollm2-135m-v0")
    assert "skills" in shown
    assert "--test-limit" in start(installed, tmp_path, "polar", "quickstart", "--help")  # reads its preset


DATA = """
import sys
import polar_env
from agents.registry import LOADERS, TRAINED, load_agent
from polar_env.questions import builtin_mixtures, parse_spec
from polar_env.worlds import open_world
from polar_env.worlds.recorded import WORLDS

assert polar_env.__file__.startswith(sys.prefix), polar_env.__file__
worlds = {name: open_world(name) for name in WORLDS}
agents = [load_agent(name, worlds["skills-smollm2-135m-v0"]) for name in TRAINED]
loaders = [LOADERS.get(kind) for kind in LOADERS]
specs = [parse_spec(name) for name in builtin_mixtures()]
print(len(worlds), len(agents), len(loaders), len(specs))
"""


def test_worlds_agents_and_questions_open_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    worlds, agents, loaders, mixtures = map(int, start(installed, tmp_path, "python", "-c", DATA).split())
    assert (worlds, agents, mixtures) == (
        len(list((ROOT / "polar_env" / "worlds" / "data").iterdir())),
        len(list((ROOT / "agents" / "trained").iterdir())),
        len(list((ROOT / "polar_env" / "questions" / "sets").glob("*.yaml"))),
    )
    assert loaders > 0
