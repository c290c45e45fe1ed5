"""The folder of one run: spec, provenance, events, outcome, log, checkpoint, kept weights. A run exists only when its outcome does."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout
from pydantic import ValidationError

from gapbench.core.errors import StoreError
from gapbench.core.outcome import FINAL, Outcome
from gapbench.store.checkpoint import CheckpointHeader, read_header
from gapbench.store.events import last_update
from gapbench.store.files import read_json, read_json_or_none, temporary_files, to_json, write_atomically, write_json
from gapbench.store.schema import utc_now
from gapbench.suite.identity import identity
from gapbench.suite.runspec import RunSpec

KEPT_WITH_OUTCOME = frozenset({"spec.json", "env.json", "events.jsonl", "outcome.json", "log.txt"})
"""Files of a finished run (besides kept weights)."""


@dataclass(frozen=True)
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
        """Returns plain JSON; bits as base64."""
        return {
            "outcome": self.outcome.value,
            "reason": self.reason,
            "update": self.update,
            "summary": to_json(dict(self.summary)),
            "test_correct": base64.b64encode(self.test_correct).decode("ascii"),
            "replicas": self.replicas,
            "finished_at": self.finished_at,
        }

    @classmethod
    def from_json(cls, content: Any) -> RunOutcome | None:
        """Returns the outcome, or None where the content is none: a damaged file is not taken for a result."""
        try:
            outcome = cls(
                outcome=Outcome(content["outcome"]),
                reason=str(content["reason"]),
                update=int(content["update"]),
                summary=dict(content["summary"]),
                test_correct=base64.b64decode(content["test_correct"], validate=True),
                replicas=int(content["replicas"]),
                finished_at=str(content["finished_at"]),
            )
        except (TypeError, KeyError, ValueError, binascii.Error):
            return None
        return outcome if outcome.outcome in FINAL else None


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
            StoreError: another process still holds it after `timeout` seconds.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=timeout)
        except Timeout:
            raise StoreError(f"{self.path}: another process is still training this run; wait until it ends or end it") from None
        try:
            yield
        finally:
            lock.release()

    def begin(self, spec: RunSpec) -> None:
        """Makes the folder and its spec.json, and removes what a killed process left half-written. Call it under the lock.

        Raises:
            StoreError: the folder holds another run than its name says.
        """
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

    def write_outcome(self, outcome: RunOutcome) -> None:
        """Makes the run exist."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self._outcome_path, outcome.as_json())

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
        """Adds text to log.txt."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("a", encoding="utf-8") as file:
            file.write(text if text.endswith("\n") else text + "\n")
