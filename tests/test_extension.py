"""The example package adds parts of each kind from outside: it is installed, and used through the command line and the
environment in processes of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "polar_env_example"
WORLD = "skills-smollm2-135m-v0"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example installed."""
    folder = tmp_path_factory.mktemp("extension")
    shutil.copytree(EXAMPLE, folder / "source")  # a build leaves files beside what it builds
    install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([sys.executable, *install, "--target", folder / "site", folder / "source"], check=True)
    return folder / "site"


def start(site: Path, folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(site), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": paths, "WANDB_MODE": "disabled"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def polar(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return start(site, folder, "import sys; from polar_env.cli import main; sys.exit(main())", *arguments)


def test_an_agent_is_evaluated_by_its_name(site: Path, tmp_path: Path) -> None:
    done = polar(site, tmp_path, "eval", "--agent", "short-asks:15", "--world", WORLD, "--json")
    assert done.returncode == 0, done.stderr
    assert "short-asks 15" in done.stdout


def test_a_source_and_a_verifier_feed_a_search_on_an_engine(site: Path, tmp_path: Path, tiny_folder: Path) -> None:
    search = ["search", "--model", str(tiny_folder), "--questions", "squares:40 {verifier: last-word, split: train}"]
    search += ["--prompt", "bare-0", "--tree-questions", "3", "--mcts.simulations", "4", "--trees"]
    search += ["--held-out-limit", "0", "--engine", "one-by-one", "--verdicts", "none", "--threads", "1", "--json"]
    done = polar(site, tmp_path, *search, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "one-by-one: question 3 of 3" in done.stderr
    assert json.loads(done.stdout)["rows"] >= 12


ENVIRONMENT = f"""
import polar_env, gymnasium as gym, json
from polar_env.worlds import open_world
world = open_world("{WORLD}")
options = dict(language="skip-one", reward="brevity {{bonus: 3}}", layer_cost=0.0)
env = gym.make("polar_env:ProgramOfLayers-v0", model=world, **options).unwrapped
paid = {{}}
for question in range(40):
    _, info = env.reset(options={{"question": question}})
    _, reward, over, _, info = env.step(28)
    paid[bool(info["right"])] = reward
print(json.dumps([over, info["program"], env.action_space.n.item(), paid[False], paid[True]]))
"""


def test_an_environment_speaks_the_language_and_pays_the_reward(site: Path, tmp_path: Path) -> None:
    done = start(site, tmp_path, ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    over, program, actions, wrong, right = json.loads(done.stdout)
    assert (over, program, actions) == (True, "0-27 29", 31)
    assert wrong == 0.0
    assert right == pytest.approx(1.1)  # one layer of thirty left out, at 3 for all of them


WRONG = {
    f"eval --world {WORLD} --agent short-ask": "unknown agent 'short-ask'. Did you mean 'short-asks'?",
    f"eval --world {WORLD} --agent short-asks:x": "'short-asks:x': 'x' is no number of characters",
    "search --questions squares:many": "'squares:many': 'many' is no number of questions",
    "search --questions square:9": "rg, squares, wheel",
    "search --questions 'squares:9 {verifier: lastword}'": "Did you mean 'last-word'?",
    "record run --questions squares:9 --engine one-by-one": "engine 'one-by-one' searches but does not record",
    "search --engine one-by-two": "unknown engine 'one-by-two'. Did you mean 'one-by-one'?",
}
"""Commands, and what their messages hold."""
SEVERAL = """
import contextlib, io, json, shlex, sys
from polar_env.cli import main
told = []
for command in sys.argv[1:]:
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        told.append([main(shlex.split(command)), errors.getvalue()])
print(json.dumps(told))
"""


def test_what_is_given_wrongly_is_told(site: Path, tmp_path: Path) -> None:
    done = start(site, tmp_path, SEVERAL, *WRONG)
    assert done.returncode == 0, done.stderr
    for (code, told), message in zip(json.loads(done.stdout), WRONG.values(), strict=True):
        assert code == 2
        assert message in told


def test_without_the_package_its_names_are_unknown(tmp_path: Path) -> None:
    done = polar(ROOT, tmp_path, "search", "--engine", "one-by-one")
    assert done.returncode == 2
    assert "unknown engine 'one-by-one'. There is: local, ray." in done.stderr
    assert "entry point in the group 'polar_env.engines'" in done.stderr
