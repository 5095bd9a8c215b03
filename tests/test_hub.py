"""Agents and worlds to a stub of the hub and back, by the commands; see `tests.hub_stub`. Never the real hub."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from agents.card import save_agent
from agents.listing import find_card
from agents.page import agent_page
from agents.registry import find_agents, load_agent
from polar_env.cli import main
from polar_env.hub import base_model, known_licence
from polar_env.program import Program
from polar_env.questions import Question
from polar_env.worlds import open_world, write_world
from tests.hub_stub import Hub, hub_stub
from tests.recording import made_world

AGENT, WORLD = "anna/skills", "anna/world"
PROGRAMS = [Program.identity(2), Program((0,)), Program((1,))]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The stub, a token that may write, and a folder to work in."""
    with hub_stub() as served:
        template = served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", "hf_write")
        monkeypatch.chdir(tmp_path)
        yield served


@pytest.fixture
def world_folder(tmp_path: Path) -> Path:
    """Program "0" is right on all questions that a static program is chosen on, and on two of five test questions."""
    splits = ["train"] * 20 + ["validation"] * 5 + ["test"] * 5
    questions = [Question.of(f"What is {n} + 1?", str(n + 1), split=split) for n, split in enumerate(splits)]
    test = [[1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 1, 1], [0, 0, 0]]
    right = np.array([[0, 1, 0]] * 25 + test, bool)
    codes = np.random.default_rng(0).normal(size=(30, 1, 8)).astype(np.float16)
    write_world(made_world(questions, PROGRAMS, right, codes), tmp_path / "made")
    return tmp_path / "made"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_agent_comes_back_as_it_was(hub: Hub, tmp_path: Path) -> None:
    assert main(["agents", "push", "skills", AGENT, "--licence", "Apache-2.0"]) == 0
    assert main(["agents", "pull", AGENT, "--out", "theirs/skills"]) == 0
    pulled = content(tmp_path / "theirs" / "skills")
    page = pulled.pop("README.md").decode()
    assert pulled == content(find_agents("skills")[0])
    head = yaml.safe_load(page.split("---")[1])
    assert head["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert head["license"] == "apache-2.0"
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == pytest.approx(0.4621)
    world = open_world("skills-smollm2-135m-v0")
    asks = [question.ask for question in world.questions[:50]]
    mine, theirs = (load_agent(name, world).decide(asks) for name in ("skills", "theirs/skills"))
    assert [decision.program for decision in theirs] == [decision.program for decision in mine]


def test_a_world_comes_back_as_it_was(hub: Hub, tmp_path: Path, world_folder: Path) -> None:
    assert main(["record", "push", str(world_folder), WORLD, "--private"]) == 0
    assert hub.repos["dataset", WORLD].private
    assert main(["record", "pull", WORLD]) == 0
    pulled = content(tmp_path / "world")
    page = pulled.pop("README.md").decode()
    assert pulled == content(world_folder)
    assert yaml.safe_load(page.split("---")[1])["license"] == "cc0-1.0"
    assert "| train | 20 | 0.0 % | 100.0 % | 100.0 % |" in page
    assert "| test | 5 | 40.0 % | 40.0 % | 80.0 % |" in page
    assert "the best static program `0` was" in page.replace("The", "the")
    assert main(["record", "check", "world"]) == 0


def test_a_branch_is_pushed_and_pulled(hub: Hub, tmp_path: Path, world_folder: Path) -> None:
    assert main(["record", "push", str(world_folder), WORLD, "--revision", "second"]) == 0
    assert "world.json" not in hub.files("dataset", WORLD)
    assert main(["record", "push", str(world_folder), WORLD, "--revision", "second"]) == 0  # once more
    assert main(["record", "pull", "--revision", "second", WORLD]) == 0
    assert (tmp_path / "world" / "world.json").is_file()


class Bomb:
    """Unpickled, it would write a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("exploded"),)


def test_what_is_no_data_stays_there(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agents", "push", "skills", AGENT]) == 0
    strange = {"model.pkl": pickle.dumps(Bomb()), "load.py": b"raise SystemExit", "deep/agent.json": b"{}"}
    hub.files("model", AGENT).update(strange)
    (tmp_path / "mine").mkdir()  # an empty folder is as good as none
    assert main(["agents", "pull", AGENT, "--out", "mine"]) == 0
    assert "left out, since they are no data: deep/agent.json, load.py, model.pkl" in capsys.readouterr().err
    assert content(tmp_path / "mine").keys() == {"README.md", "agent.json", "value.safetensors"}
    assert not (tmp_path / "exploded").exists()


def test_what_was_cut_or_changed_is_named_and_not_kept(
    hub: Hub, tmp_path: Path, world_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["agents", "push", "skills", AGENT]) == 0
    assert main(["record", "push", str(world_folder), WORLD]) == 0
    for kind, repo, name in (("model", AGENT, "value.safetensors"), ("dataset", WORLD, "states.safetensors")):
        files = hub.files(kind, repo)
        files[name] = files[name][:-1]
        verb = "agents" if kind == "model" else "record"
        assert main([verb, "pull", repo, "--out", "kept"]) == 2
        said = capsys.readouterr().err
        assert f"nothing was kept of {repo}: {repo}/{name} is" in said
        assert not (tmp_path / "kept").exists()
    assert not list(tmp_path.glob(".kept*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("agents push skills", "something is missing; write e.g. polar agents push skills OWNER/skills"),
        ("agents push skils anna/skills", "Did you mean 'skills'"),
        ("agents push skills@1.8 anna/skills", "a saved agent has its own price of layers; leave '@1.8' to those"),
        ("agents push selector:2|skills anna/skills", "has no folder; give 'skills' alone"),
        ("agents push skills anna", "'anna' names no repository of the hub; write OWNER/REPO"),
        ("agents push skills anna/a..b", "the hub takes no repository named 'anna/a..b'"),
        ("agents pull", "something is missing"),
        ("agents pull anna/nothing", "there is no repository anna/nothing, or your token may not see it"),
        ("agents pull anna/other", "anna/other is not what was asked for (agent.json is missing; it has notes.txt)"),
        ("agents pull anna/other --revision v9", "anna/other has no revision 'v9'; leave out --revision"),
        ("agents pull anna/other --out full", "full is not empty; give a new folder"),
        ("record push skills-v0 anna/world", "Did you mean 'skills-"),
        ("record pull anna/nothing", "there is no repository anna/nothing"),
    ],
)
def test_bad_input(hub: Hub, tmp_path: Path, arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    main(["agents", "push", "skills", "anna/other"])
    hub.files("model", "anna/other").clear()
    hub.files("model", "anna/other")["notes.txt"] = b""
    capsys.readouterr()
    assert main(arguments.split()) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "there is no token to push to anna/skills with; run `hf auth login`, or set HF_TOKEN"),
        ("hf_read", "your token has no right to write to anna/skills"),
        ("hf_old", "the hub does not accept your token for anna/skills; run `hf auth login`"),
    ],
)
def test_tokens(
    hub: Hub, token: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert main(["agents", "push", "skills", AGENT]) == 2
    assert message in capsys.readouterr().err
    assert not hub.repos


def test_a_private_repository_without_a_token(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["agents", "push", "skills", AGENT, "--private"]) == 0
    monkeypatch.setenv("HF_TOKEN", "")
    assert main(["agents", "pull", AGENT]) == 2
    assert "there is no repository anna/skills, or private: then run `hf auth login`" in capsys.readouterr().err


def test_no_network_no_hub_and_offline(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.down = True
    ways = [["agents", "push", "skills", AGENT], ["agents", "pull", AGENT]]
    for way in ways:
        assert main(way) == 2
        assert "the hub refused anna/skills" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for way in ways:
        assert main(way) == 2
        assert "the hub at http://127.0.0.1:9 cannot be reached" in capsys.readouterr().err
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for way in ways:
        assert main(way) == 2
        assert "the hub is switched off here by HF_HUB_OFFLINE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [("../above.json", "does not lie beside it"), ("weights.bin", "would not be pulled again; name files *.json")],
)
def test_files_that_do_not_belong_to_an_agent(
    hub: Hub, tmp_path: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_agent(find_card("skills"), tmp_path / "mine", {"new.json": b"{}"})
    (tmp_path / "mine" / name).write_bytes(b"{}")
    card = tmp_path / "mine" / "agent.json"
    card.write_text(card.read_text().replace("new.json", name))
    assert main(["agents", "push", "mine", AGENT]) == 2
    assert message in capsys.readouterr().err
    assert not hub.repos


def test_words_of_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert known_licence("made by hand; CC-BY-4.0") == ("cc-by-4.0", None)
    assert known_licence("ARC CC BY-SA 4.0, OpenBookQA Apache-2.0") == (
        "other", "ARC CC BY-SA 4.0, OpenBookQA Apache-2.0",
    )  # fmt: skip
    assert known_licence("") == (None, None)
    assert base_model("meta/llama") == "meta/llama"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    assert base_model("models/mine") is None
    bare = find_card("skills").model_copy(update={"results": {}})
    page = agent_page(bare, AGENT)
    assert "model-index" not in page
    assert "license" not in page
    assert "`polar eval` does" in page
