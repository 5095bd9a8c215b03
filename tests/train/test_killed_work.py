"""Nothing is lost and nothing changes when a search or a recording is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from polar_env.traces import TraceSet
from tests.polar_env.traces.test_traces import facts
from tests.train.killed_work import collect, record_world


def killed(work: str, model: Path, folder: Path) -> list[Path]:
    """The folders of work that was killed 20 times in all."""
    command = [sys.executable, "-m", "tests.train.killed_work", work, str(model), str(folder), "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout
    return [Path(line) for line in done.stdout.split()]


def test_a_search_killed_at_random_moments_ends_as_if_it_never_was(tmp_path: Path, tiny_folder: Path) -> None:
    collect(str(tiny_folder), tmp_path / "whole")
    whole = facts(TraceSet.open(tmp_path / "whole" / "traces"))
    for folder in killed("search", tiny_folder, tmp_path / "killed"):
        assert facts(TraceSet.open(folder / "traces")) == whole


def test_a_recording_killed_at_random_moments_gives_the_same_world(tmp_path: Path, tiny_folder: Path) -> None:
    record_world(str(tiny_folder), tmp_path / "whole")
    for folder in killed("record", tiny_folder, tmp_path / "killed"):
        for path in (tmp_path / "whole" / "world").iterdir():
            assert (folder / "world" / path.name).read_bytes() == path.read_bytes()
