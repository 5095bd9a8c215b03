"""Nothing is lost and nothing changes when a search is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from polar_env.traces import TraceSet
from tests.polar_env.traces.test_traces import facts
from tests.train.killed_search import collect


def test_a_search_killed_at_random_moments_ends_as_if_it_never_was(tmp_path: Path, tiny_folder: Path) -> None:
    collect(str(tiny_folder), tmp_path / "whole")
    command = [sys.executable, "-m", "tests.train.killed_search", str(tiny_folder), str(tmp_path / "killed"), "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    whole = facts(TraceSet.open(tmp_path / "whole" / "traces"))
    for folder in done.stdout.split():
        assert facts(TraceSet.open(Path(folder) / "traces")) == whole
    assert done.stdout
