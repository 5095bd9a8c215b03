"""What an offline run of wandb wrote, read back: LevelDB's log format around wandb's own protocol buffers.

The reader in Python that wandb used to have is gone from its releases; the messages are wandb's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as messages

_HEADER, _BLOCK, _RECORD = 7, 32_768, 7


@dataclass
class OfflineRun:
    """A run.

    Attributes:
        run: its first message: id, group, job, project.
        config: the configuration, by key.
        history: what was logged, one mapping for each step; a table's or an image's parts are ``NAME.PART``.
        summary: the last values.
        artifacts: messages of the artifacts that it logged.
    """

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[Any] = field(default_factory=list)
    exit_code: int | None = None


def read_offline_run(folder: Path) -> OfflineRun:
    """Read ``folder/run-ID.wandb``."""
    (path,) = folder.glob("run-*.wandb")
    read = OfflineRun()
    for data in _records(path.read_bytes()):
        record = messages.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            read.run = read.run or record.run
            read.config |= _items(record.run.config.update)
        elif kind == "config":
            read.config |= _items(record.config.update)
        elif kind == "history":
            read.history.append(_items(record.history.item))
        elif kind == "summary":
            read.summary |= _items(record.summary.update)
        elif kind == "artifact":
            read.artifacts.append(record.artifact)
        elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
            read.artifacts.append(record.request.log_artifact.artifact)
        elif kind == "exit":
            read.exit_code = record.exit.exit_code
    return read


def _items(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(content: bytes) -> list[bytes]:
    assert content[:4] == b":W&B"
    at, records, parts = _HEADER, [], b""
    while at + _RECORD <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < _RECORD:
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + _RECORD : at + _RECORD + length]
        at += _RECORD + length
        if kind in (1, 4):  # whole, or the last part
            records.append(parts)
            parts = b""
    return records
