"""Parquet tables that grow shard by shard, so that whatever is stopped can go on.

A shard is written under a temporary name and renamed when it is whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from polar_env.errors import TraceError

__all__ = ["ShardedTable", "sha256_of", "write_whole"]


class ShardedTable:
    """A folder of Parquet shards with one schema.

    Args:
        folder: where the shards lie; made when the first one is written.
        schema: columns and their types.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, schema

    @property
    def shards(self) -> list[Path]:
        """The whole shards, in the order in which they were written."""
        return sorted(self.folder.glob("shard-*.parquet"))

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write one shard, whole or not at all; no rows write nothing."""
        if not rows:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        last = int(self.shards[-1].stem.removeprefix("shard-")) if self.shards else -1
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=self.schema), sink)
        write_whole(self.folder / f"shard-{last + 1:05d}.parquet", sink.getvalue().to_pybytes())

    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order in which they were written.

        Raises:
            TraceError: if a shard is damaged.
        """
        rows: list[dict[str, Any]] = []
        for shard in self.shards:
            try:
                rows += pq.read_table(shard, schema=self.schema).to_pylist()
            except (pa.ArrowException, OSError) as error:
                raise TraceError(f"{shard} is damaged ({error}); delete it and run the command again.") from error
        return rows


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
