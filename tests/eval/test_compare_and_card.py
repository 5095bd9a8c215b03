"""`polar compare` and `polar card`, on made-up results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.results import Results
from polar_env.cli import main
from tests.eval.test_report import PROGRAMS, meta_of, result, results_of


def changed(folder: Path, numbers: range, gold: str = "yes") -> Results:
    """The same methods on some of the questions."""
    results = Results(folder / "results")
    results.folder.mkdir(parents=True)
    (results.folder / "results.json").write_text(json.dumps(meta_of("identity")))
    results.append([result("identity", number) | {"gold": gold} for number in numbers])
    return results


def test_a_method_of_one_evaluation_against_one_of_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results_of(tmp_path, *PROGRAMS)
    changed(tmp_path / "b", range(6))
    assert main(["compare", str(tmp_path), str(tmp_path / "b"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["method"], found["base"], found["questions"]) == ("ppo", "identity", 6)
    assert (found["won"], found["lost"], found["delta"]) == (2, 0, pytest.approx(2 / 6))
    assert set(found["tasks"]) == {"sums", "words"}
    assert main(["compare", str(tmp_path), str(tmp_path / "b"), "--method", "identity"]) == 0
    printed = capsys.readouterr().out
    assert "no difference that 6 questions can show" in printed
    assert "| sums |" in printed


@pytest.mark.parametrize(
    ("numbers", "gold", "options", "message"),
    [
        (range(3), "yes", [], "3 are in both, 3 only in the first, 0 only in the second. Give --common"),
        (range(6), "no", [], "6 questions have another gold answer"),
        (range(6), "yes", ["--method", "pp"], "Did you mean 'ppo'"),
    ],
)
def test_what_cannot_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], numbers: range, gold: str, options: list[str], message: str
) -> None:
    results_of(tmp_path, *PROGRAMS)
    changed(tmp_path / "b", numbers, gold)
    assert main(["compare", str(tmp_path), str(tmp_path / "b"), *options]) == 2
    assert message in capsys.readouterr().err


def test_common_questions_are_compared_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results_of(tmp_path, *PROGRAMS)
    changed(tmp_path / "b", range(3))
    assert main(["compare", str(tmp_path), str(tmp_path / "b"), "--common", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["questions"] == 3
    assert main(["compare", str(tmp_path)]) == 2
    assert "takes two folders, not 1" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
    assert "would be compared with itself" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), str(tmp_path), "--other", "identity"]) == 0
    capsys.readouterr()
    assert main(["compare", str(tmp_path), str(tmp_path / "nothing")]) == 2
    assert "holds no results" in capsys.readouterr().err


def test_a_card_says_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = results_of(tmp_path, *PROGRAMS)
    assert main(["card", "ppo", "--results", str(tmp_path), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    folder = results.folder.parent / "cards" / "ppo"
    assert json.loads((folder / "card.json").read_text()) == card
    page = (folder / "card.md").read_text()
    assert (card["vs_identity"]["won"], card["vs_identity"]["lost"]) == (2, 0)
    assert card["chosen"]["0-5 7"] == 2
    assert "- `0-5 7` on 2 of 6 questions" in page
    assert "| ppo | all | +33.3" in page
    assert "has right in another form: 0.0" in page
    assert main(["card", "0-7", "--results", str(tmp_path), "--out", str(tmp_path / "static")]) == 0
    assert (tmp_path / "static" / "card.md").read_text().startswith("# identity\n")
    assert main(["card", "0-5", "--results", str(tmp_path)]) == 2
    assert "unknown method '0-5'" in capsys.readouterr().err
    assert main(["card"]) == 2
