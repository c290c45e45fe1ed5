"""events.jsonl: what was measured in a run, one JSON object a line, only ever appended to (and cut back to a checkpoint)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from gapbench.core.events import Measured
from gapbench.store.files import to_json


class EventLog:
    """Appends measurements of one run. Opening it cuts off what lies behind the checkpoint that training goes on from."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        """Opens the log.

        Args:
            path: of events.jsonl; made where it is missing.
            keep_bytes: size at the checkpoint; 0 begins anew.
        """
        self._file = path.open("ab")
        if self._file.tell() != keep_bytes:
            self._file.truncate(keep_bytes)
            self._file.seek(keep_bytes)

    def append(self, event: Measured) -> None:
        """Writes one event; others can read it at once, though a loss of power may lose it before `sync`."""
        line = json.dumps(
            {"update": event.update, "examples": event.examples, "values": to_json(list(event.values))},
            allow_nan=False,
            separators=(",", ":"),
        )
        self._file.write(line.encode("utf-8") + b"\n")
        self._file.flush()

    def sync(self) -> int:
        """Flushes everything to the disk and returns the size in bytes: what a checkpoint has to remember."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def read_events(path: Path) -> Iterator[Measured]:
    """Yields the events of a log (replica 0 throughout: the run owns its file). A torn last line, from a kill, ends it."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            event = _parse(line)
            if event is None:
                return
            yield event


def last_update(path: Path) -> int | None:
    """Returns the update of the last whole event, or None where there is none. Reads only the end of the file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 65536))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        event = _parse(line + b"\n") if line else None
        if event is not None:
            return event.update
    return None


def _parse(line: bytes) -> Measured | None:
    if not line.endswith(b"\n"):
        return None
    try:
        content = json.loads(line)
        values = tuple((str(metric), str(layer), float(value)) for metric, layer, value in content["values"])
        return Measured(replica=0, update=int(content["update"]), examples=int(content["examples"]), values=values)
    except (ValueError, TypeError, KeyError):
        return None
