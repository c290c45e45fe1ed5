"""Writes session.json while runs train: what `gapbench status` shows elsewhere, and the sign that somebody is at work."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from pathlib import Path
from types import TracebackType

from gapbench.core.errors import StoreError
from gapbench.execution.notices import Begun, Notice
from gapbench.execution.tracker import Tracker
from gapbench.store import ResultsDirectory, Session, SessionJob, write_session
from gapbench.store.schema import utc_now

BEAT_SECONDS = 5.0


class Heartbeat:
    """A context manager that is called with notices. Writes from a thread of its own, so that a slow disk holds nothing up."""

    def __init__(self, results: ResultsDirectory) -> None:
        self._results = results
        self._tracker = Tracker()
        self._started_at = ""
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Heartbeat:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._started_at:
            self.write("ended" if self._tracker.over is not None and not self._tracker.over.interrupted else "interrupted")

    def __call__(self, notice: Notice) -> None:
        """Takes a notice."""
        with self._lock:
            self._tracker.take(notice)
        if isinstance(notice, Begun):
            self._started_at = utc_now()
            self.write("training")
            self._thread.start()

    def _beat(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            self.write("stopping" if self._tracker.stopping else "training")

    def write(self, state: str) -> None:
        """Writes the state of things now."""
        with self._lock:
            session = self._session(state)
        # Without this file others see less, and nothing else is lost: a full disk is told of by what matters.
        with contextlib.suppress(StoreError):
            write_session(self._results.path, session)

    def _session(self, state: str) -> Session:
        tracker = self._tracker
        assert tracker.begun is not None
        jobs = tuple(
            SessionJob(
                running.title,
                running.run_ids,
                running.update,
                running.updates,
                running.accuracy,
                tracker.job_seconds_left(slot),
            )
            for slot, running in sorted(tracker.slots.items())
        )
        return Session(
            state=state,
            host=platform.node(),
            pid=os.getpid(),
            command=tracker.begun.command,
            folder=str(Path.cwd()),
            started_at=self._started_at,
            seconds=tracker.seconds,
            slots=tracker.begun.slots,
            threads=tracker.begun.threads,
            devices=tracker.begun.devices,
            jobs=jobs,
            seconds_left=tracker.seconds_left,
            rough=tracker.rough,
        )
