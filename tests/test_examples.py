"""The trace sets that are shipped are whole, and what is said of them is true."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from polar_env.cli import main
from polar_env.traces import TraceSet
from polar_env.traces.check import check_traces
from polar_env.traces.describe import describe

EXAMPLES = Path(__file__).parent.parent / "examples"
SETS = ["arithmetic", "choices", "mathematics"]
MEBIBYTE = 1 << 20


@pytest.mark.parametrize("name", SETS)
def test_a_shipped_set_is_whole_and_as_large_as_its_card_says(name: str) -> None:
    traces = TraceSet.open(EXAMPLES / name / "traces")
    assert check_traces(traces) == []
    told = describe(traces)
    card = re.search(rf"^\| \[{name}\].*$", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert card
    *_, size, trees, verdicts = (cell.strip() for cell in card[0].strip("|").split("|"))
    assert (int(trees), int(verdicts.replace(",", ""))) == (told["trees"], told["verdicts"])
    shipped = sum(path.stat().st_size for path in (EXAMPLES / name).rglob("*") if path.is_file())
    assert float(size.removesuffix(" MiB")) == pytest.approx(shipped / MEBIBYTE, abs=0.05)
    for shard in traces.verdicts.shards:
        assert not {"question", "text", "answer"} & set(pq.read_schema(shard).names)


@pytest.mark.parametrize("name", SETS)
def test_its_analysis_comes_out_as_shipped(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(EXAMPLES / name / "traces", tmp_path / "traces")
    assert main(["analyse", str(tmp_path), "--execute", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    shipped = json.loads((EXAMPLES / name / "analysis" / "analysis.json").read_text())
    assert len(list(_numbers(found))) > 50
    executed = {"changed", "fixes_lost", "regenerated", "fixes_not_written", "survives", "needless"}
    assert shipped.keys() == found.keys() | executed
    without_execution = {key: value for key, value in shipped.items() if key in found}
    assert dict(_numbers(found)) == pytest.approx(dict(_numbers(without_execution)), abs=1e-9)


def _numbers(found: Any, place: tuple[Any, ...] = ()) -> Any:
    """All numbers of a JSON object, and where each stands."""
    if isinstance(found, dict | list):
        items = found.items() if isinstance(found, dict) else enumerate(found)
        for key, value in items:
            yield from _numbers(value, (*place, key))
    elif isinstance(found, int | float):
        yield place, found


def test_an_agent_can_learn_from_a_shipped_set() -> None:
    traces = TraceSet.open(EXAMPLES / "arithmetic" / "traces")
    matrix = traces.matrix()
    assert matrix.right.shape[0] > 500  # the race went on to all train questions
    assert matrix.right.shape[1] > 10
    assert 0.1 < matrix.right.mean() < 0.9


def test_all_sets_together_are_small() -> None:
    shipped = sum(path.stat().st_size for path in EXAMPLES.rglob("*") if path.is_file())
    assert shipped < 20 * MEBIBYTE
