"""checkpoint.pt: the state that a run, or a stack of runs, goes on from. One line of JSON, then what the worker serialized.

A stack's slices stand in one file, in the folder of its first run, because they are only any use together: a kill between
two slices would otherwise leave replicas at different updates.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import gapbench
from gapbench.store.files import write_atomically

_MAGIC = "gapbench-checkpoint"
_MAXIMUM_HEADER_BYTES = 1 << 20


@dataclass(frozen=True)
class CheckpointHeader:
    """What can be known of a checkpoint without torch."""

    stack: tuple[str, ...]
    """Ids of the runs whose slices it holds, in order; one id for a run that trains alone."""
    update: int
    """Updates done."""
    event_bytes: tuple[int, ...]
    """By run: the size of events.jsonl at the checkpoint; what lies behind it is cut on resuming."""
    seconds: float
    """Time spent training so far, over all starts, for time limits."""


def write_checkpoint(path: Path, header: CheckpointHeader, write_payload: Callable[[BinaryIO], None]) -> None:
    """Writes a checkpoint atomically. The events it counts must be on the disk already (`EventLog.sync`)."""

    def write(file: BinaryIO) -> None:
        line = json.dumps(
            {"format": _MAGIC, "gapbench_version": gapbench.__version__, **asdict(header)}, allow_nan=False, separators=(",", ":")
        )
        file.write(line.encode("utf-8") + b"\n")
        write_payload(file)

    write_atomically(path, write)


def read_header(path: Path) -> CheckpointHeader | None:
    """Returns the header, or None where there is no checkpoint, a damaged one or one of another gapbench: then training begins anew."""
    try:
        with path.open("rb") as file:
            return _parse(file.readline(_MAXIMUM_HEADER_BYTES))
    except OSError:
        return None


def read_payload(path: Path) -> bytes:
    """Returns what `write_payload` wrote."""
    with path.open("rb") as file:
        file.readline(_MAXIMUM_HEADER_BYTES)
        return file.read()


def _parse(line: bytes) -> CheckpointHeader | None:
    try:
        content: dict[str, Any] = json.loads(line)
        if content["format"] != _MAGIC or content["gapbench_version"] != gapbench.__version__:
            return None
        header = CheckpointHeader(
            stack=tuple(str(run_id) for run_id in content["stack"]),
            update=int(content["update"]),
            event_bytes=tuple(int(size) for size in content["event_bytes"]),
            seconds=float(content["seconds"]),
        )
    except (ValueError, TypeError, KeyError):
        return None
    return header if header.stack and len(header.stack) == len(header.event_bytes) else None
