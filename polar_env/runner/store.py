"""Verdicts on disk: made once, read by search, training, evaluation, other processes and later runs.

One SQLite file for each model and each way to run it; a row for each question under its prompt and each program. Every
row carries a checksum: a file that is damaged, or of another version, is set aside and a new one begun.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import time
import warnings
import weakref
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
import transformers

from polar_env.llm.frozen import FrozenLLM
from polar_env.runner.choosing import refuse_while_choosing
from polar_env.runner.prefixes import Prefix
from polar_env.runner.verdict import Verdict

__all__ = ["VerdictStore", "VerdictStoreWarning"]

VERSION = 2
"""Counts the changes of what the rows mean."""
_PATIENCE = 60.0
"""Seconds to wait for other processes."""
_AT_ONCE = 500
"""Keys of one query."""
_TABLE = """CREATE TABLE verdicts
    (key BLOB PRIMARY KEY, right INTEGER NOT NULL, log_prob REAL NOT NULL, tokens BLOB NOT NULL,
    checksum INTEGER NOT NULL) WITHOUT ROWID"""
Row = tuple[bytes, int, float, bytes, int]
Result = TypeVar("Result")


class VerdictStoreWarning(UserWarning):
    """A file of verdicts could not be trusted and was set aside."""


class _Untrusted(Exception):
    """What is wrong with a file of verdicts."""


class VerdictStore:
    """Verdicts of one model, executed under one set of conditions.

    Safe with several processes on one machine: SQLite's write-ahead log lets all of them read and one at a time write;
    whoever writes waits for the others.

    Args:
        folder: where the files lie.
        conditions: all that a verdict may depend on beside question and program; names the file.
    """

    def __init__(self, folder: Path, conditions: str) -> None:
        self.path = folder / f"{conditions}.sqlite"
        self._connection: sqlite3.Connection | None = None
        self._file = 0

    @classmethod
    def of(cls, folder: Path, llm: FrozenLLM) -> VerdictStore:
        """The verdicts of an LLM as it runs here: its weights, floating-point type, device, attention, and the
        libraries that compute.
        """
        libraries = f"torch{torch.__version__}-transformers{transformers.__version__}"
        return cls(folder, f"{llm.fingerprint}-{llm.dtype_name}-{llm.device.type}-{llm.attention}-{libraries}")

    @staticmethod
    def key(question: bytes, program: Prefix) -> bytes:
        """16 bytes for a question under its prompt (`EncodedQuestion.digest`) and a program."""
        return hashlib.blake2b(question + program, digest_size=16).digest()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Verdict]:
        """The verdicts that are on disk.

        Raises:
            LeakError: inside of `no_verdicts_for`.
        """
        refuse_while_choosing(str(self.path))

        def read(connection: sqlite3.Connection) -> dict[bytes, Verdict]:
            verdicts: dict[bytes, Verdict] = {}
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                query = f"SELECT * FROM verdicts WHERE key IN ({','.join('?' * len(some))})"
                verdicts |= {row[0]: _verdict(row) for row in connection.execute(query, list(some))}
            return verdicts

        return self._do(read)

    def put(self, verdicts: Mapping[bytes, Verdict]) -> None:
        """Keep verdicts, all or none; they outlive the process once this returns. One that is there stays as it is."""
        rows = [_row(key, verdict) for key, verdict in verdicts.items()]

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?, ?)", rows)

        self._do(write)

    def __len__(self) -> int:
        return self._do(lambda connection: int(connection.execute("SELECT count(*) FROM verdicts").fetchone()[0]))

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _do(self, action: Callable[[sqlite3.Connection], Result]) -> Result:
        """Act on the file; if it turns out not to be trusted, on a new one.

        Raises:
            OSError: if the disk is full, or another process keeps the file locked.
        """
        try:
            try:
                return action(self._open())
            except (_Untrusted, sqlite3.DatabaseError) as problem:
                if isinstance(problem, sqlite3.OperationalError):
                    raise
                self._set_aside(problem)
                return action(self._open())
        except sqlite3.OperationalError as problem:
            raise OSError(f"{self.path}: {problem}; free the disk, or stop what holds the file.") from problem

    def _open(self) -> sqlite3.Connection:
        """A connection to the file that is there now."""
        if self._connection is not None and self.path.exists() and self.path.stat().st_ino == self._file:
            return self._connection
        self.close()  # another process may have set the file aside
        with self._alone():
            connection = sqlite3.connect(self.path, timeout=_PATIENCE, check_same_thread=False)
            try:
                if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                    raise _Untrusted("its pages are damaged")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                _check_version(connection)
            except BaseException:
                connection.close()
                raise
            finally:
                self._file = self.path.stat().st_ino
        self._connection = connection
        _OPEN.add(self)
        return connection

    def _set_aside(self, problem: Exception) -> None:
        """Rename the file that was opened, unless another process has done so by now."""
        self.close()
        with self._alone():
            if self.path.exists() and self.path.stat().st_ino == self._file:
                aside = self.path.with_suffix(f".{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9}.set-aside")
                self.path.rename(aside)
                for suffix in ("-wal", "-shm"):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
                warnings.warn(
                    f"the verdicts in {self.path} cannot be trusted: {problem}. They were set aside as {aside.name} "
                    "and will be made again; delete that file when you do not need it.",
                    VerdictStoreWarning,
                    stacklevel=4,
                )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from opening or setting aside the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


_OPEN: weakref.WeakSet[VerdictStore] = weakref.WeakSet()


def _close_all() -> None:
    for store in list(_OPEN):
        store.close()


os.register_at_fork(before=_close_all)  # SQLite's connections must not be carried over to a child


def _check_version(connection: sqlite3.Connection) -> None:
    """Make the table in a new file; refuse a file of another version."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    table = connection.execute("SELECT sql FROM sqlite_master").fetchone()
    if table is None:
        with connection:
            connection.execute(_TABLE)
            connection.execute(f"PRAGMA user_version = {VERSION}")
    elif version != VERSION:
        raise _Untrusted(f"they are of version {version}, this is version {VERSION}")
    elif table[0] != _TABLE:
        raise _Untrusted("the table is another one")


def _row(key: bytes, verdict: Verdict) -> Row:
    tokens = array("q", verdict.answer_tokens).tobytes()
    return key, int(verdict.right), verdict.log_prob, tokens, _checksum(key, verdict.right, verdict.log_prob, tokens)


def _verdict(row: Row) -> Verdict:
    key, right, log_prob, tokens, checksum = row
    try:
        intact = checksum == _checksum(key, bool(right), log_prob, tokens) and right in (0, 1)
    except (TypeError, ValueError, OverflowError):  # SQLite lets a column hold anything
        intact = False
    if not intact:
        raise _Untrusted("a row does not match its checksum")
    return Verdict(bool(right), log_prob, tuple(array("q", tokens)))


def _checksum(key: bytes, right: bool, log_prob: float, tokens: bytes) -> int:
    return zlib.crc32(b"".join([key, bytes([right]), array("d", [log_prob]).tobytes(), tokens]))
