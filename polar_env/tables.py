"""Parquet tables that grow shard by shard, so that a run that was stopped can continue.

A shard is written under a temporary name and renamed when it is whole; its name holds a checksum of its content.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from polar_env.errors import ConfigError, FingerprintError, TraceError

__all__ = [
    "ShardedTable",
    "keep_settings",
    "read_json",
    "require_new_folder",
    "sha256_of",
    "write_whole",
    "writing_folder",
    "writing_whole",
]

_NUMBER, _CHECKSUM = r"\d{5,}", r"[0-9a-f]{16}"


class ShardedTable:
    """A folder of Parquet shards with one schema, for one writer at a time.

    The folder is listed once, at the first use; afterwards the table remembers its shards, so that appending costs the
    same however many there are. A table that is opened later sees the shards that another process wrote meanwhile.

    Args:
        folder: where the shards lie; made when the first one is written.
        schema: columns and their types.
        kind: begins the shards' names, ``KIND-NUMBER-CHECKSUM.parquet``.
    """

    def __init__(self, folder: Path, schema: pa.Schema, kind: str = "shard") -> None:
        self.folder, self.schema, self.kind = folder, schema, kind
        self._row_counts: dict[str, int] = {}

    @cached_property
    def _shards(self) -> list[Path]:
        name = re.compile(rf"{self.kind}-{_NUMBER}-{_CHECKSUM}\.parquet")
        whole = [path for path in self.folder.glob(f"{self.kind}-*.parquet") if name.fullmatch(path.name)]
        return sorted(whole, key=lambda path: (self.number(path), path.name))

    @property
    def shards(self) -> list[Path]:
        """The whole shards, in the order in which they were written."""
        return list(self._shards)

    def number(self, shard: Path) -> int:
        """The number in a shard's name; they are counted from 0."""
        return int(shard.name.split("-")[-2])

    @property
    def next_number(self) -> int:
        """The number of the shard that is written next."""
        return self.number(self._shards[-1]) + 1 if self._shards else 0

    @property
    def count(self) -> int:
        """How many rows there are, from the shards' metadata; each shard's is read at most once."""
        for shard in self._shards:
            if shard.name not in self._row_counts:
                self._row_counts[shard.name] = pq.read_metadata(shard).num_rows
        return sum(self._row_counts.values())

    def append(self, rows: Sequence[Mapping[str, Any]], number: int | None = None) -> None:
        """Write one shard from rows; see `append_table`."""
        self.append_table(pa.Table.from_pylist([dict(row) for row in rows], schema=self.schema), number)

    def append_table(self, rows: pa.Table, number: int | None = None) -> None:
        """Write one shard, whole or not at all; no rows write nothing.

        Args:
            rows: what it holds.
            number: its number, in place of shards of this or a later number; None writes the next one.
        """
        if number is not None:
            while self._shards and self.number(self._shards[-1]) >= number:
                self._shards[-1].unlink(missing_ok=True)
                self._row_counts.pop(self._shards.pop().name, None)
        if not rows.num_rows:
            return
        sink = pa.BufferOutputStream()
        pq.write_table(rows.cast(self.schema), sink, compression="zstd")
        content = sink.getvalue().to_pybytes()
        name = f"{self.kind}-{self.next_number if number is None else number:05d}-{_checksum(content)}.parquet"
        write_whole(self.folder / name, content)
        self._shards.append(self.folder / name)
        self._row_counts[name] = rows.num_rows

    def table(self) -> pa.Table:
        """All rows, in the order in which they were written.

        Raises:
            TraceError: if a shard is damaged.
        """
        return pa.concat_tables([self.schema.empty_table(), *(self.read(shard) for shard in self._shards)])

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The same rows, or some of their columns, one shard at a time.

        Raises:
            TraceError: if a shard is damaged.
        """
        for shard in self.shards:
            yield from self.read(shard, columns).to_batches()

    def read(self, shard: Path, columns: Sequence[str] | None = None) -> pa.Table:
        """One shard, or some of its columns.

        Raises:
            TraceError: if it is damaged, missing, or of another schema.
        """
        try:
            content = shard.read_bytes()
        except FileNotFoundError as error:
            raise TraceError(f"{shard} was deleted after its folder was listed; run the command again.") from error
        if _checksum(content) != shard.stem.split("-")[-1]:
            raise TraceError(
                f"{shard} is damaged: its content does not match the checksum in its name. Put a copy of it there; or, "
                f"where a command made it, delete the shards of this number ({self.number(shard):05d}) and run the "
                "command again, which makes their rows again. Import or merge the whole set again if it was imported "
                "or merged."
            )
        try:
            file = pq.ParquetFile(pa.BufferReader(content))
            if not file.schema_arrow.equals(self.schema):
                raise pa.ArrowInvalid(f"its columns are {', '.join(file.schema_arrow.names)}")
            return file.read(columns=columns).select(columns or self.schema.names)
        except (pa.ArrowException, OSError) as error:
            raise TraceError(f"{shard} is of another version ({error}); use another folder.") from error


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write it so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with writing_whole(path) as file:
        file.write(content)


def require_new_folder(folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        ConfigError: if it does, is a file, or the folder that commands are started in, which nothing can take over.
    """
    if folder.resolve() == Path.cwd():
        raise ConfigError(f"'{folder}' is the folder that you are in; give a new one in it.")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; give a new folder.")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; give a new folder, or delete it first.")


@contextmanager
def writing_folder(folder: Path) -> Iterator[Path]:
    """Write a folder so that it is there whole or not at all: yields a temporary one beside it, which takes its place.

    Raises:
        ConfigError: if there is something in the folder.
    """
    require_new_folder(folder)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        fresh = Path(scratch) / folder.name
        fresh.mkdir()
        yield fresh
        fresh.rename(folder)  # an empty folder makes way


def read_json(path: Path, delete: Path | None = None) -> dict[str, Any]:
    """Read a JSON object that this package wrote.

    Args:
        path: the file.
        delete: what the same command makes anew; by default the file's folder.

    Raises:
        ConfigError: if the file is damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise TypeError("it holds no JSON object")
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} is damaged: {error}. Put a copy of the file there, or delete {delete or path.parent} and run the "
            "same command again."
        ) from error
    return values


def keep_settings(path: Path, settings: Mapping[str, Any], holds: str, mend: str) -> None:
    """Write the settings of what a folder holds; where some lie there already, they must be the same.

    Args:
        path: the JSON file.
        settings: values that JSON gives back as they are.
        holds: what the folder holds, for the message.
        mend: what to do about a difference, for the message.

    Raises:
        FingerprintError: naming the settings that differ.
        ConfigError: if the file is damaged.
    """
    if path.is_file():
        before = read_json(path)
        changed = [key for key in settings if before.get(key) != settings[key]]
        if changed:
            raise FingerprintError(f"{path.parent} holds {holds} that differs in: {', '.join(changed)}. {mend}")
    write_whole(path, json.dumps(settings, indent=2).encode())
