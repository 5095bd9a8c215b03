"""Parquet tables that grow shard by shard, so that whatever is stopped can go on.

A shard is written under a temporary name and renamed when it is whole; its name holds a checksum of its content.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from polar_env.errors import TraceError

__all__ = ["ShardedTable", "sha256_of", "write_whole"]

_NUMBER, _CHECKSUM = r"\d{5,}", r"[0-9a-f]{16}"


class ShardedTable:
    """A folder of Parquet shards with one schema.

    Args:
        folder: where the shards lie; made when the first one is written.
        schema: columns and their types.
        kind: begins the shards' names, ``KIND-NUMBER-CHECKSUM.parquet``.
    """

    def __init__(self, folder: Path, schema: pa.Schema, kind: str = "shard") -> None:
        self.folder, self.schema, self.kind = folder, schema, kind

    @property
    def shards(self) -> list[Path]:
        """The whole shards, in the order in which they were written."""
        name = re.compile(rf"{self.kind}-{_NUMBER}-{_CHECKSUM}\.parquet")
        found = [path for path in self.folder.glob(f"{self.kind}-*.parquet") if name.fullmatch(path.name)]
        return sorted(found, key=lambda path: (self.number(path), path.name))

    def number(self, shard: Path) -> int:
        """The number in a shard's name; they are counted from 0."""
        return int(shard.name.split("-")[-2])

    @property
    def next_number(self) -> int:
        """The number of the shard that is written next."""
        return self.number(self.shards[-1]) + 1 if self.shards else 0

    @property
    def count(self) -> int:
        """How many rows there are, told by the shards' metadata."""
        return sum(pq.read_metadata(shard).num_rows for shard in self.shards)

    def append(self, rows: Sequence[Mapping[str, Any]], number: int | None = None) -> None:
        """Write one shard, whole or not at all; no rows write nothing.

        Args:
            rows: what it holds.
            number: its number, in place of shards of this or a later number; None writes the next one.
        """
        if number is not None:
            for shard in self.shards:
                if self.number(shard) >= number:
                    shard.unlink()
        if not rows:
            return
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=self.schema), sink, compression="zstd")
        content = sink.getvalue().to_pybytes()
        name = f"{self.kind}-{self.next_number if number is None else number:05d}-{_checksum(content)}.parquet"
        write_whole(self.folder / name, content)

    def rows(self) -> list[dict[str, Any]]:
        """All rows, in the order in which they were written.

        Raises:
            TraceError: if a shard is damaged.
        """
        rows: list[dict[str, Any]] = self.table().to_pylist()
        return rows

    def table(self) -> pa.Table:
        """The same as an Arrow table.

        Raises:
            TraceError: if a shard is damaged.
        """
        return pa.concat_tables([self.schema.empty_table(), *(self.read(shard) for shard in self.shards)])

    def read(self, shard: Path, columns: Sequence[str] | None = None) -> pa.Table:
        """One shard, or some of its columns.

        Raises:
            TraceError: if it is damaged.
        """
        content = shard.read_bytes()
        if _checksum(content) != shard.stem.split("-")[-1]:
            raise TraceError(
                f"{shard} is damaged: its content does not match the checksum in its name. Put a copy of it there; or, "
                f"where a command made it, delete the shards of this number ({self.number(shard):05d}) and run the "
                "command again, which makes anew what they held. Imported and merged sets are made anew as a whole."
            )
        try:
            return pq.read_table(pa.BufferReader(content), schema=self.schema, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise TraceError(f"{shard} is of another version ({error}); use another folder.") from error


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


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
