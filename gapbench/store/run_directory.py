"""The folder of one run: spec, provenance, events, outcome, log, checkpoint, kept weights. A run exists only when its outcome does."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, cast

from filelock import FileLock, Timeout
from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

import gapbench
from gapbench.core.errors import LockedError, StoreError
from gapbench.core.events import FINAL, Measured, Outcome
from gapbench.store.files import read_json, read_json_or_none, refusing, temporary_files, to_json, unwritten, write_atomically, write_json
from gapbench.store.schema import utc_now
from gapbench.suite.runspec import RunSpec, canonical_json, identity

# events.jsonl: what was measured in a run, one JSON object a line, only ever appended to (and cut back to a checkpoint).


class EventLog:
    """Appends measurements of one run. Opening it cuts off what lies behind the checkpoint that training goes on from."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        """Opens the log.

        Args:
            path: of events.jsonl; made where it is missing.
            keep_bytes: size at the checkpoint; 0 begins anew.

        Raises:
            StoreError: the file cannot be written, here as in the other methods.
        """
        self._path = path
        with refusing(path):
            # Unbuffered: what a full disk has refused must not come back when the file is closed.
            self._file = path.open("ab", buffering=0)
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
        content = line.encode("utf-8") + b"\n"
        with refusing(self._path):
            while content:
                content = content[self._file.write(content) :]

    def sync(self) -> int:
        """Flushes everything to the disk and returns the size in bytes: what a checkpoint has to remember."""
        with refusing(self._path):
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


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


# log.txt: what a run's workers printed and how each of its starts went; read back as the last lines that people are shown.

TAIL_BYTES = 16384
"""Of the end of a log that is looked at for its last lines."""

MAXIMUM_LINE = 300
"""Characters of a line that are shown."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_START = re.compile(r"^\[\d{4}-\d\d-\d\dT[^\]]*\] (?:begins at|goes on after) update ")
_STACKED = "trains in one stack with "


def start_line(started_at: str, update: int, device: str) -> str:
    """Returns the line that every start of a run begins with."""
    return f"[{started_at}] {'goes on after' if update else 'begins at'} update {update} on {device}"


def stack_line(leader: str) -> str:
    """Returns the line of a stack's other runs that says where the stack's prints are."""
    return f"{_STACKED}{leader}: what is printed stands in its log"


def last_lines(path: Path, number: int = 8) -> tuple[str, ...]:
    """Returns the last lines since the last start, for a terminal: no control codes, of a progress bar only its last state.

    The marks of gapbench itself (`start_line`, `stack_line`) and empty lines are left out. Empty where there is no log.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    lines: list[str] = []
    for raw in text.split("\n"):
        line = _printable(raw)
        if _START.match(line):
            lines.clear()
        elif line.strip(" ^~") and not line.startswith(_STACKED):  # without a traceback's marks under its lines
            lines.append(line if len(line) <= MAXIMUM_LINE else line[: MAXIMUM_LINE - 1] + "…")
    return tuple(lines[-number:])


def _printable(line: str) -> str:
    """Returns a line as it would stand in a terminal at the end: what a carriage return has written over is gone."""
    states = [state for state in _ESCAPES.sub("", line).split("\r") if state.strip()]
    return "".join(character for character in (states[-1] if states else "").expandtabs(4) if character.isprintable()).rstrip()


# checkpoint.pt: the state that a run, or a stack of runs, goes on from. One line of JSON, then what the worker serialized, then the
# BLAKE2b digest of both: torch reads flipped bits of tensors without a word.
#
# A stack's slices stand in one file, in the folder of its first run, because they are only any use together: a kill between
# two slices would otherwise leave replicas at different updates.

_MAGIC = "gapbench-checkpoint"
_MAXIMUM_HEADER_BYTES = 1 << 20
_DIGEST_BYTES = 32


@pydantic_dataclass(frozen=True, config=ConfigDict(defer_build=True))
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
        hashing = _Hashing(file)
        hashing.write(line.encode("utf-8") + b"\n")
        write_payload(cast("BinaryIO", hashing))
        file.write(hashing.digest.digest())

    write_atomically(path, write)


class _Hashing:
    """What serializers need of a file, and the digest of what they wrote."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def write(self, content: Any) -> int:
        self.digest.update(content)
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()


def read_header(path: Path) -> CheckpointHeader | None:
    """Returns the header, or None where there is no checkpoint, a damaged one or one of another gapbench: then training begins anew."""
    try:
        with path.open("rb") as file:
            return _checkpoint_parse(file.readline(_MAXIMUM_HEADER_BYTES))
    except OSError:
        return None


def read_payload(path: Path) -> bytes:
    """Returns what `write_payload` wrote.

    Raises:
        ValueError: the file is not what was written.
    """
    with path.open("rb") as file:
        header = file.readline(_MAXIMUM_HEADER_BYTES)
        payload = file.read(max(0, path.stat().st_size - len(header) - _DIGEST_BYTES))
        digest = hashlib.blake2b(header, digest_size=_DIGEST_BYTES)
        digest.update(payload)
        if file.read() != digest.digest():
            raise ValueError("its checksum does not fit its content")
    return payload


def _checkpoint_parse(line: bytes) -> CheckpointHeader | None:
    try:
        content: dict[str, Any] = json.loads(line)
        if content["format"] != _MAGIC or content["gapbench_version"] != gapbench.__version__:
            return None
        header = CheckpointHeader(**content)
    except (ValueError, TypeError, KeyError):
        return None
    return header if header.stack and len(header.stack) == len(header.event_bytes) else None


KEPT_WITH_OUTCOME = frozenset({"spec.json", "env.json", "events.jsonl", "outcome.json", "log.txt"})
"""Files of a finished run (besides kept weights)."""


@pydantic_dataclass(frozen=True, config=ConfigDict(defer_build=True))
class RunOutcome:
    """How a run ended, and the numbers that only the engine knows."""

    outcome: Outcome
    reason: str = ""
    update: int = 0
    summary: Mapping[str, Any] = field(default_factory=dict)
    test_correct: bytes = b""
    """One bit for each test example (numpy.packbits)."""
    replicas: int = 1
    """Runs that shared the stack."""
    finished_at: str = field(default_factory=utc_now)

    def as_json(self) -> dict[str, Any]:
        """Returns what `write_json` takes; bits as base64."""
        return asdict(self) | {"test_correct": base64.b64encode(self.test_correct).decode("ascii")}

    @classmethod
    def from_json(cls, content: Any) -> RunOutcome | None:
        """Returns the outcome, or None where the content is none: a damaged file is not taken for a result. Older ones have no hash."""
        names = {one.name for one in fields(cls)}
        try:
            if content.keys() - names and _sealed(content) != content:
                return None
            values = {name: content[name] for name in names}
            outcome = cls(**values | {"test_correct": base64.b64decode(values["test_correct"], validate=True)})
        except (AttributeError, TypeError, KeyError, ValueError):
            return None
        return outcome if outcome.outcome in FINAL else None


def _sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what an outcome's file holds with the hash of all of it but that hash."""
    rest = {name: value for name, value in content.items() if name != "blake2b"}
    return rest | {"blake2b": hashlib.blake2b(canonical_json(to_json(rest)).encode(), digest_size=_DIGEST_BYTES).hexdigest()}


def _seal_of_file(path: Path) -> dict[str, Any] | None:
    """Returns size and hash of a file, or None where there is none."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_DIGEST_BYTES)).hexdigest()
            return {"bytes": file.tell(), "blake2b": digest}
    except FileNotFoundError:
        return None


class RunDirectory:
    """Reads and writes one folder `runs/<run id>`."""

    def __init__(self, path: Path, run_id: str) -> None:
        self.path = path
        self.run_id = run_id
        self.events_path = path / "events.jsonl"
        self.log_path = path / "log.txt"
        self.checkpoint_path = path / "checkpoint.pt"
        self.journal_path = path / "stack-outcomes.json"
        self._outcome_path = path / "outcome.json"

    @contextmanager
    def locked(self, timeout: float = 0.0) -> Iterator[None]:
        """Holds the lock of whoever trains this run; the operating system frees it when its holder dies.

        Raises:
            LockedError: another process still holds it after `timeout` seconds.
            StoreError: the folder cannot be written to.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            held = FileLock(self.path / ".lock").acquire(timeout=timeout)
        except Timeout:
            raise LockedError(f"{self.path}: another process is still training this run; wait until it ends or end it") from None
        except OSError as error:
            raise unwritten(self.path, error) from error
        with held:
            yield

    def begin(self, spec: RunSpec) -> None:
        """Makes the folder and its spec.json, and removes what a killed process left half-written. Call it under the lock.

        Raises:
            StoreError: the folder holds another run than its name says.
        """
        with refusing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            for leftover in temporary_files(self.path):
                leftover.unlink(missing_ok=True)
        self.check_spec(spec)
        write_json(self.path / "spec.json", spec.model_dump(mode="json"))

    def check_spec(self, spec: RunSpec) -> None:
        """Raises StoreError where the stored spec has another identity than `spec`, the one that the folder's name stands for."""
        if (self.path / "spec.json").exists() and identity(self.spec()) != identity(spec):
            raise StoreError(
                f"{self.path / 'spec.json'}: does not hold run {self.run_id}; move {self.path} away, its numbers belong to another run"
            )

    def spec(self) -> RunSpec:
        """Returns the stored spec. Raises StoreError where there is none."""
        content = read_json(self.path / "spec.json")
        try:
            return RunSpec.model_validate(content)
        except ValidationError as error:
            raise StoreError(
                f"{self.path / 'spec.json'}: is no run specification ({error.error_count()} errors); move {self.path} away"
            ) from error

    def add_session(self, provenance: Mapping[str, Any]) -> None:
        """Notes in env.json where and with what the run trains from now on; each start and resume is one entry."""
        sessions = self.sessions()
        sessions.append(dict(provenance))
        write_json(self.path / "env.json", {"sessions": sessions})

    def sessions(self) -> list[dict[str, Any]]:
        """Returns the entries of env.json, oldest first."""
        content = read_json_or_none(self.path / "env.json")
        sessions = content.get("sessions") if isinstance(content, dict) else None
        return [dict(session) for session in sessions] if isinstance(sessions, list) else []

    def outcome(self) -> RunOutcome | None:
        """Returns how the run ended, or None while it has not."""
        content = read_json_or_none(self._outcome_path)
        return None if content is None else RunOutcome.from_json(content)

    def damage(self) -> str:
        """Returns which file of a finished run is not what was written, in words; empty where it is whole, or has not ended.

        Reads all events. Of results that were written without hashes, only what cannot be read at all is known to be damaged.
        """
        if not self._outcome_path.exists():
            return ""
        content = read_json_or_none(self._outcome_path)
        if content is None or RunOutcome.from_json(content) is None:
            return f"{self._outcome_path.name} is damaged"
        if "events" in content and content["events"] != _seal_of_file(self.events_path):
            return f"{self.events_path.name} is damaged"
        return ""

    def write_outcome(self, outcome: RunOutcome) -> None:
        """Makes the run exist. The file carries a hash of itself, and size and hash of the events, which must be whole by now."""
        with refusing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            events = _seal_of_file(self.events_path)
        write_json(self._outcome_path, _sealed({**outcome.as_json(), "events": events}))

    def state(self) -> Outcome:
        """Returns the outcome; `interrupted` where training began and has none, `skipped` where it never began."""
        outcome = self.outcome()
        if outcome is not None:
            return outcome.outcome
        return Outcome.INTERRUPTED if self.has_begun() else Outcome.SKIPPED

    def has_begun(self) -> bool:
        """Whether training ever began here."""
        return any((self.path / name).exists() for name in ("env.json", "events.jsonl", "checkpoint.pt"))

    def checkpoint(self) -> CheckpointHeader | None:
        """Returns the header of the checkpoint that stands in this folder, if there is a readable one."""
        return read_header(self.checkpoint_path)

    def updates_done(self) -> int:
        """Returns the last update that anything is known of, from files only."""
        outcome = self.outcome()
        if outcome is not None:
            return outcome.update
        header = self.checkpoint()
        return max(self.last_event() or 0, header.update if header else 0)

    def last_event(self) -> int | None:
        """Returns the update of the last measurement that is whole, or None where there is none."""
        return last_update(self.events_path)

    def write_weights(self, fraction: float, write: Callable[[BinaryIO], None]) -> Path:
        """Keeps the weights at a fraction of training, as `weights-<fraction>.pt`; returns the path."""
        path = self.path / f"weights-{fraction:g}.pt"
        write_atomically(path, write)
        return path

    def append_log(self, text: str) -> None:
        """Adds text to log.txt. Raises StoreError where it cannot be written."""
        with refusing(self.log_path):
            self.path.mkdir(parents=True, exist_ok=True)
            with self.log_path.open("a", encoding="utf-8") as file:
                file.write(text if text.endswith("\n") else text + "\n")


# Outcomes of a stack, written all or none.
#
# Runs of a stack end together. Were a kill to leave some of them finished and others not, the others would train again in a smaller
# stack. So the outcomes first go into one journal file in the folder of the first run; from the moment that its rename is done they
# are decided, and whoever next opens the results directory finishes what is left.

_CHECKPOINT_USELESS = frozenset({Outcome.OK, Outcome.DIVERGED})


def commit(outcomes: Mapping[RunDirectory, RunOutcome]) -> None:
    """Writes the outcomes of the runs of one job, the stack's first run first, and removes its checkpoint where it is of no more use."""
    runs = list(outcomes)
    leader = runs[0]
    if len(runs) > 1:
        write_json(leader.journal_path, {run.run_id: _sealed(outcome.as_json()) for run, outcome in outcomes.items()})
    for run, outcome in outcomes.items():
        run.write_outcome(outcome)
    if all(outcome.outcome in _CHECKPOINT_USELESS for outcome in outcomes.values()):
        for run in runs:
            run.checkpoint_path.unlink(missing_ok=True)
    leader.journal_path.unlink(missing_ok=True)


def recover(runs_folder: Path) -> int:
    """Finishes the journals that a kill left; returns how many outcomes that wrote. Call it under the results directory's lock."""
    written = 0
    for journal in sorted(runs_folder.glob("*/stack-outcomes.json")):
        content = read_json_or_none(journal)
        for run_id, stored in (content if isinstance(content, dict) else {}).items():
            outcome = RunOutcome.from_json(stored)
            run = RunDirectory(runs_folder / run_id, run_id)
            if outcome is not None and run.path.is_dir() and run.outcome() is None:
                run.write_outcome(outcome)
                written += 1
        journal.unlink(missing_ok=True)
    return written


# How a run failed, for people: outcome, reason, the last lines of its log and where that log is.

FAILED = FINAL - {Outcome.OK}
"""Outcomes of runs that have ended without a result."""


@dataclass(frozen=True)
class Failure:
    """A run that ended and is not ok."""

    run_id: str
    outcome: Outcome
    reason: str
    log: Path
    last_lines: tuple[str, ...]


def read_failure(run: RunDirectory, stored: RunOutcome | None = None) -> Failure | None:
    """Returns how a run failed, or None where it is ok or has not ended.

    Args:
        run: its folder.
        stored: its outcome, where that was read already.
    """
    stored = stored or run.outcome()
    if stored is None or stored.outcome not in FAILED:
        return None
    return Failure(run.run_id, stored.outcome, stored.reason, run.log_path, last_lines(run.log_path))
