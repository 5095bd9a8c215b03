"""From questions to a recorded world, an agent that learned from it, and its decisions, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from agents.card import read_card
from agents.registry import TRAINED, find_agent, load_agent
from polar_env.cli import main
from polar_env.worlds import open_world
from tests.recording import part_of_shipped
from tests.test_traces_cli import QUESTIONS, polar
from train.config import ValueConfig
from train.value import train_value


def flags(model: Path, out: Path) -> list[str]:
    shared = ["--model", str(model), "--questions", QUESTIONS, "--prompt", "qa-0", "--out", str(out), "--threads", "1"]
    programs = [text for program in ("0-1 3", "0 1x2 2-3") for text in ("--program", program)]
    return ["record", "run", *shared, *programs, "--verdicts", "none", "--limit", "40", "--components", "8"]


def test_from_questions_to_an_agent(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = polar(capsys, *flags(tiny_folder, tmp_path), "--seconds", "1e-9", "--piece", "8")
    assert (first["recorded"], first["verdicts"], first["world"]) == (0, 120, None)
    done = polar(capsys, *flags(tiny_folder, tmp_path), "--piece", "8")
    assert (done["questions"], done["programs"]) == (40, 3)
    world = str(tmp_path / "world")
    assert polar(capsys, "record", "check", world) == {"name": "world", "questions": 40, "programs": 3}
    again = polar(capsys, "record", "check", world, "--again", "--pairs", "60", "--threads", "1", "--verdicts", "none")
    assert (again["verdicts"]["value"], again["verdicts"]["count"]) == (1.0, 60)
    assert open_world(world).written.programs() == ["0-3", "0-1 3", "0 1x2 2-3"]
    found = polar(capsys, "record", "describe", world)
    assert found["identity"]["value"] <= found["oracle"]["value"] <= 1
    assert found["static"]["value"] <= found["oracle"]["value"]
    trained = polar(capsys, "train", "--world", world, "--value.look", "2", "--value.menu", "3", "--out", str(tmp_path))
    assert 0 <= trained["out_of_fold"]["pass_at_1"] <= 1
    answered = polar(capsys, "run", "What is 3 + 4?", "--agent", str(tmp_path / "agents" / "value"))
    assert answered["program"] in ("0-3", "0-1 3", "0 1x2 2-3")


def test_the_quickstart_learns_from_a_recorded_world(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    polar(capsys, *flags(tiny_folder, tmp_path / "mine"), "--piece", "8")
    world, out = str(tmp_path / "mine" / "world"), tmp_path / "out"
    few = {
        "tree_questions": 4, "mcts": {"simulations": 4}, "test_limit": 6,
        "evaluation": {"baseline_questions": 2, "oracle_questions": 2, "agreement_questions": 2, "timing_questions": 2},
    }  # fmt: skip
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(few))
    asked = ["--questions", QUESTIONS, "--out", str(out), "--threads", "1", "--config", str(tmp_path / "few.yaml")]
    start = ["quickstart", "--world", world, "--learner", "value", *asked]
    summary = polar(capsys, *start, "--model", str(tiny_folder))
    assert {"identity", "best-static", "value", "oracle", "findings", "seconds"} <= summary.keys()
    assert summary["search"]["rows"] > 4
    assert not list(out.glob("traces*"))  # nothing was searched to learn from
    assert read_card(out / "agents" / "value").config["world"] == "world"
    for other, message in (([], "is of the model"), (["--learner", "valeu"], "Did you mean 'value'")):
        assert main([*start, *other]) == 2
        assert message in capsys.readouterr().err
    assert main([*start, "--model", str(tiny_folder), "--dtype", "bfloat16"]) == 2
    assert "Give --model" in capsys.readouterr().err  # the same model, but not as it was recorded


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["record"], "there is nothing to record; give --questions"),
        (["record", "check", str(tmp_path)], "unknown recorded world"),
        (["record", "reference", "--learner", "PP0"], "Did you mean 'PPO'"),
        (["train", "--world", "skills"], "Did you mean 'skills-"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Some questions of the world that ships."""
    folder = tmp_path_factory.mktemp("part")
    part_of_shipped(folder)
    return str(folder)


def test_reference_scores(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learners = ["best static", "linear value", "LinUCB", "GRPO", "oracle", "random", "MaskablePPO"]
    asked = [text for name in learners for text in ("--learner", name)]
    values = polar(
        capsys, "record", "reference", part, *asked, "--seeds", "1", "--steps", "300", "--out", str(tmp_path)
    )
    scores = values["part"]
    assert list(scores) == learners
    assert (scores["best static"]["score"], scores["oracle"]["score"]) == (0.0, 1.0)
    assert scores["random"]["score"] < 0 < scores["linear value"]["score"] < 1
    assert json.loads((tmp_path / "reference.json").read_text()) == values
    handed_in = tmp_path / "submissions" / "part"
    for name in ("linear value", "LinUCB"):
        again = polar(capsys, "record", "score", str(handed_in / f"{name.replace(' ', '-')}.json"), "--of-world", part)
        assert again == {name: pytest.approx(scores[name])}


def test_the_control_gives_no_learner_a_score(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learners = ["linear value", "kernel value", "behaviour cloning", "GRPO", "LinUCB", "MaskablePPO"]
    asked = [text for name in learners for text in ("--learner", name)]
    quick = ["--control", "--seeds", "1", "--steps", "1000", "--out", str(tmp_path)]
    scores = polar(capsys, "record", "reference", part, *asked, *quick)["part-control"]
    assert {name: score["low_over_questions"] <= 0 for name, score in scores.items()} == dict.fromkeys(learners, True)
    assert not (tmp_path / "submissions").exists()


@pytest.mark.parametrize("name", TRAINED)
def test_shipped_agents_are_what_their_presets_make(name: str, tmp_path: Path) -> None:
    """Trained again, it decides the same; what it was trained on is what its card says."""
    folder = find_agent(name)
    assert folder is not None
    card = read_card(folder)
    world = open_world(card.config["world"])
    assert card.config["files"] == world.card.files
    config = ValueConfig(**{key: card.config[key] for key in ValueConfig.model_fields})
    again = train_value(world, tmp_path, config).folder / "value"
    asks = [world.questions[row].ask for row in world.rows("test")]
    ours, theirs = (load_agent(str(each), world).decide(asks) for each in (folder, again))  # type: ignore[union-attr]
    assert np.mean([a.program == b.program for a, b in zip(ours, theirs, strict=True)]) > 0.99


def test_learning_curves(
    part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "train.curves.CURVES", {"questions": (40, 9_999), "menu": (2,), "look": (4,), "price": (0.0, 4.0)}
    )
    values = polar(capsys, "record", "curves", part, "--out", str(tmp_path))
    assert json.loads((tmp_path / "curves.json").read_text()) == values
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    few, all_, _, look, free, dear = values["points"]
    assert few["pass_at_1"] < all_["pass_at_1"]
    assert (few["value"], all_["value"]) == (40, 7 * all_["vs_static"]["count"] // 8)
    assert look["pass_at_1"] == all_["pass_at_1"]  # the same settings
    assert dear["cost"] < 0.95 < free["cost"]


def test_transfer_says_how_far_a_gain_reaches(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = polar(capsys, "record", "transfer", part, "--out", str(tmp_path))["rows"]
    assert json.loads((tmp_path / "transfer.json").read_text())["rows"] == rows
    names = [row["name"] for row in rows]
    assert {"unseen: two-digit addition", "first number 50 and above: all"} <= set(names)
    for row in rows:
        assert row["pass_at_1"] - row["identity"] == pytest.approx(row["vs_identity"]["value"])
    world = open_world(part)
    seen = {world.questions[row].task: world.tasks[world.rows("train+validation")] for row in world.rows("train")}
    for task, tasks in seen.items():
        assert rows[names.index(f"unseen: {task}")]["vs_static"]["count"] == (tasks == task).sum()
