"""session.json: what the gapbench that trains in a results directory is doing, for those who look at it from elsewhere.

It is written anew every few seconds, and so is a sign of life, too, where a lock is not seen: on a folder shared between machines.
It holds no result and may be missing at any time.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from gapbench.store.files import read_json_or_none, write_json

SESSION_FILE = "session.json"

_READ = ConfigDict(defer_build=True)
"""What is read from the file is checked; the models for that are built only then."""


@dataclass(frozen=True, config=_READ)
class SessionJob:
    """A job that trains at the moment."""

    title: str
    run_ids: tuple[str, ...]
    update: int
    updates: int
    test_accuracy: float | None
    """Last evaluation, mean over the runs of the stack."""
    seconds_left: float | None


@dataclass(frozen=True, config=_READ)
class Session:
    """One call of `run`, from its first to its last moment of training."""

    state: str
    """training, stopping, interrupted or ended."""
    host: str
    pid: int
    command: str
    """What to call to go on; empty where it was called from Python."""
    folder: str
    """Where it was called."""
    started_at: str
    """ISO 8601 in UTC."""
    seconds: float
    """Since then, when this was written."""
    slots: int
    threads: int
    devices: tuple[str, ...]
    jobs: tuple[SessionJob, ...]
    seconds_left: float | None
    """By the clock; None: not known yet."""
    rough: bool
    """Whether `seconds_left` rests on guesses more than on measurements."""


@dataclasses.dataclass(frozen=True)
class SeenSession:
    """A session, and how long ago it was written."""

    session: Session
    age_seconds: float


def write_session(folder: Path, session: Session) -> None:
    """Writes the file. Raises StoreError where that is not possible."""
    write_json(folder / SESSION_FILE, dataclasses.asdict(session))


def read_session(folder: Path) -> SeenSession | None:
    """Returns what was written last, or None where there is nothing that can be read."""
    path = folder / SESSION_FILE
    content = read_json_or_none(path)
    try:
        age = max(0.0, time.time() - path.stat().st_mtime)
        return None if content is None else SeenSession(Session(**content), age)
    except (OSError, TypeError, KeyError, ValueError):
        return None
