"""Tables of shards: appending costs the same however many shards there are, and a killed writer leaves whole ones."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polar_env.errors import ConfigError, TraceError
from polar_env.tables import ShardedTable, read_json, write_whole, writing_whole

SCHEMA = pa.schema([("number", pa.int32()), ("text", pa.string())])


def opened(folder: Path) -> ShardedTable:
    return ShardedTable(folder, SCHEMA)


def numbers(table: ShardedTable) -> list[int]:
    return [number for batch in table.batches(["number"]) for number in batch["number"].to_pylist()]


@pytest.fixture
def reads_of_folders(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts listings of folders and reads of shards' metadata."""
    counts: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return function(*arguments, **options)

        return call

    for name in ("glob", "rglob", "iterdir"):
        monkeypatch.setattr(Path, name, counted("listings", getattr(Path, name)))
    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, counted("listings", getattr(os, name)))
    monkeypatch.setattr(pq, "read_metadata", counted("metadata", pq.read_metadata))
    return counts


def test_appending_lists_the_folder_once(tmp_path: Path, reads_of_folders: Counter[str]) -> None:
    for number in range(50):
        opened(tmp_path / "old").append([{"number": number, "text": "x"}])
    reads_of_folders.clear()
    table = opened(tmp_path / "old")
    table.append([{"number": 50, "text": "x"}])
    assert table.count == 51
    after_first = reads_of_folders.copy()
    assert after_first["listings"] > 0
    assert after_first["metadata"] == 50
    for number in range(51, 101):
        table.append([{"number": number, "text": "x"}])
        assert table.next_number == table.count == number + 1
    table.append([{"number": 100, "text": "y"}], number=100)
    assert reads_of_folders == after_first
    assert numbers(table) == numbers(opened(tmp_path / "old")) == list(range(101))


def test_a_given_number_replaces_shards_from_it_on(tmp_path: Path) -> None:
    table = opened(tmp_path)
    for number in range(4):
        table.append([{"number": number, "text": "x"}])
    table.append([{"number": 9, "text": "x"}], number=2)
    assert numbers(table) == numbers(opened(tmp_path)) == [0, 1, 9]
    table.append([], number=1)
    assert numbers(table) == numbers(opened(tmp_path)) == [0]
    assert table.next_number == table.count == 1
    table.append([{"number": 7, "text": "x"}], number=5)
    assert opened(tmp_path).next_number == 6


def test_a_table_that_is_open_does_not_see_later_shards_of_others(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    assert first.count == 0
    second.append([{"number": 0, "text": "x"}])
    assert first.count == 0
    assert opened(tmp_path).count == 1


def test_shards_of_other_columns_and_deleted_ones_are_named(tmp_path: Path) -> None:
    other = ShardedTable(tmp_path, pa.schema([("place", pa.int32())]))
    other.append([{"place": 1}])
    table = opened(tmp_path)
    with pytest.raises(TraceError, match=r"of another version \(its columns are place\)"):
        table.table()
    other.shards[0].unlink()
    with pytest.raises(TraceError, match="was deleted after its folder was listed"):
        table.table()


def test_a_file_that_could_not_be_written_whole_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    write_whole(path, b"old")

    def fail() -> None:
        with writing_whole(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [one.name for one in path.parent.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_damaged_file_names_what_may_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text("[1]")
    with pytest.raises(ConfigError, match=f"or delete {tmp_path} and run"):
        read_json(path)
    with pytest.raises(ConfigError, match=f"or delete {path} and run"):  # not the run's folder, where more lies
        read_json(path, delete=path)
