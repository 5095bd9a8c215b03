from __future__ import annotations

import json
from pathlib import Path

import pytest

from agents.card import CARD, AgentCard, read_card, save_agent
from agents.listing import describe, find_card, list_agents
from agents.registry import find_agents
from polar_env.cli import main
from polar_env.errors import UnknownNameError


@pytest.fixture
def card() -> AgentCard:
    """As the training of a policy writes it."""
    changes = {"name": "ppo", "kind": "policy", "weights": {}}
    results = {"best-static": "0-2 3x2 4-29", "validation": {"pass_at_1": 0.5, "cost": 0.9}}
    return read_card(find_agents("skills")[0]).model_copy(update=changes | {"results": results})


@pytest.fixture
def run_folder(card: AgentCard, tmp_path: Path) -> Path:
    save_agent(card, tmp_path / "agents" / "ppo", {})
    save_agent(card.model_copy(update={"name": "plain", "results": {}}), tmp_path / "agents" / "plain", {})
    return tmp_path


def test_the_agents_that_ship() -> None:
    assert list(list_agents()) == ["skills"]
    assert list(list_agents("skills")) == ["skills"]


def test_the_agents_of_a_run(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agents", "list", str(run_folder), "--json"]) == 0
    agents = json.loads(capsys.readouterr().out)["agents"]
    ppo = agents[str(run_folder / "agents" / "ppo")]
    assert next(iter(agents)) == "skills"
    assert len(agents) == 3
    assert agents["skills"]["judged"]["how"] == "out_of_fold"
    assert ppo["judged"] == {"how": "validation", "pass_at_1": 0.5, "cost": 0.9}
    assert ppo["best_static"] == "0-2 3x2 4-29"
    assert main(["agents", "list", str(run_folder)]) == 0
    assert "policy" in capsys.readouterr().out


def test_one_card(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agents", "show", str(run_folder / "agents" / "ppo")]) == 0
    shown = capsys.readouterr().out
    assert "pass@1 50.0 %, cost 0.900 (on validation)" in shown
    assert "smollm2-135m, 30 layers, in float32" in shown
    assert main(["agents", "show", "skills", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == describe(find_card("skills"))


def test_a_card_without_results_says_what_it_has(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agents", "show", str(run_folder / "agents" / "plain")]) == 0
    assert "result" not in capsys.readouterr().out


def test_a_damaged_agent_hides_no_other(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_folder / "agents" / "plain" / CARD).write_text("{")
    assert main(["agents", "list", str(run_folder), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert len(said["agents"]) == 2
    assert "is damaged" in said["problems"][str(run_folder / "agents" / "plain")]
    assert main(["agents", "list", str(run_folder)]) == 1
    assert "cannot be" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show"], "write e.g. polar agents show skills"),
        (["show", "skils"], "Did you mean 'skills'"),
        (["list", "nowhere"], "unknown agent or run 'nowhere'"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agents", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_run_of_several_is_no_card(run_folder: Path) -> None:
    with pytest.raises(UnknownNameError, match="several agents"):
        find_card(str(run_folder))
