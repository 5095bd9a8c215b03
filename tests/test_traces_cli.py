"""From a search to an analysis and into other code bases' formats, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polar_env.cli import main
from polar_env.program import Program, single_edits
from polar_env.traces import TraceSet

QUESTIONS = "rg:chain_sum {size: 200, options: {min_terms: 2, max_terms: 2, max_digits: 1}}"


@pytest.fixture
def searched(tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert polar(capsys, *flags(tiny_folder, tmp_path), "--trees", "--chance", "--tree-questions", "8")["rows"] > 0
    return tmp_path


def flags(model: Path, out: Path) -> list[str]:
    shared = ["--model", str(model), "--questions", QUESTIONS, "--prompt", "qa-0", "--out", str(out), "--threads", "1"]
    return ["search", *shared, "--verdicts", "none", "--mcts.simulations", "8", "--limit", "12"]


def polar(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run a command in this process; its JSON."""
    capsys.readouterr()
    returned = main([*arguments, "--json"])
    printed = capsys.readouterr()
    assert returned == code, printed.err
    found: dict[str, Any] = json.loads(printed.out) if code < 2 else {"error": printed.err}
    return found


def test_analysis_of_a_search(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = polar(capsys, "analyse", str(searched), "--execute", "10", "--threads", "1", "--verdicts", "none")
    assert found["questions"] == 8
    assert found["simulations"] == 8 * 8
    assert found["sharing_factor"] > 1
    assert found["changed"]["value"] == 0.0
    for key in ("shorter_share", "fixed_share", "chance_shorter_share", "chance_fixed_share", "singles_shorter_share"):
        if found[key] is not None:
            assert 0 <= found[key]["low"] <= found[key]["value"] <= found[key]["high"] <= 1
    assert found["fixed_share"] is not None
    assert (searched / "analysis" / "analysis.md").read_text().startswith("# What other programs")
    assert json.loads((searched / "analysis" / "analysis.json").read_text()) == found


def test_a_shipped_set_is_analysed_without_its_questions(
    searched: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["analyse", str(searched), "--questions", "jsonl:questions/gone.jsonl"]
    assert "Or give --execute 0" in polar(capsys, *arguments, code=2)["error"]
    assert polar(capsys, *arguments, "--execute", "0")["questions"] == 8


def test_a_race_alone_starts_from_all_single_edits(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raced = flags(tiny_folder, tmp_path)
    assert "--matrix grows none" in polar(capsys, *raced, "--matrix", "--chance", code=2)["error"]
    assert polar(capsys, *raced, "--matrix", "--race.survivors", "2")["survivors"]
    traces = TraceSet.open(tmp_path / "traces")
    tried = {row.program for row in list(traces.verdict_rows())}
    assert {str(program) for program in single_edits(Program.identity(traces.depth))} < tried
    assert traces.meta["config"]["race"]["combine"] == 8


def test_check_says_what_is_damaged(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert polar(capsys, "traces", "check", str(searched))["problems"] == []
    assert polar(capsys, "traces", "info", str(searched))["trees"] == 8
    shard = TraceSet.open(searched / "traces").verdicts.shards[0]
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    problems = polar(capsys, "traces", "check", str(searched), code=1)["problems"]
    assert any(shard.name in problem for problem in problems)


def test_out_to_polar_and_back_into_a_training_set(
    searched: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = polar(capsys, "traces", "export", str(searched), "--out", str(searched))
    assert exported["questions"] == 8
    path = Path(exported["file"])
    content = json.loads(path.read_text())
    content["samples"][0]["final_valid_transitions"].append([0, 99])
    path.write_text(json.dumps(content))
    other = searched / "other"
    arguments = ["traces", "import", str(path), "--model", str(tiny_folder), "--prompt", "qa-0", "--out", str(other)]
    assert "1 samples or paths that are no programs" in polar(capsys, *arguments, code=2)["error"]
    assert not other.exists()
    assert polar(capsys, *arguments, "--skip-bad")["left_out"] == 1
    questions = f"jsonl:{other / 'questions.jsonl'}"
    raced = flags(tiny_folder, other)
    raced[raced.index(QUESTIONS)] = questions
    assert polar(capsys, *raced, "--matrix", "--race.candidates", "8", "--race.survivors", "3")["survivors"]
    assert len(TraceSet.open(other / "traces").matrix().programs) >= 4


def test_merged_runs(searched: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = searched / "more"
    polar(capsys, *flags(tiny_folder, more), "--trees", "--tree-questions", "12")
    merged = polar(capsys, "traces", "merge", str(searched), str(more), "--out", str(searched / "both"))
    assert merged["trees_left_out"] == 8
    assert merged["disagreements"] == 0
    assert polar(capsys, "traces", "info", str(searched / "both"))["trees"] == 12


def test_a_set_of_other_settings_is_refused(
    searched: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = polar(capsys, *flags(tiny_folder, searched), "--preset", "cola", code=2)["error"]
    assert "made with other settings" in error
    assert "exploration: 0.1 there" in error
