"""The results directory of one suite: its lock, its schema, its plan and its runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from gapbench.core.errors import StoreError
from gapbench.store.files import temporary_files, write_text
from gapbench.store.plan import StoredPlan, read_plan, write_plan
from gapbench.store.run_directory import RunDirectory, recover
from gapbench.store.schema import SCHEMA_FILE, migrate, read_schema, write_schema

ATTEMPT_MARK = "~"
"""`<run id>~1` is an old attempt of a run, `~2` the next one."""

LOCK_FILE = ".lock"

LOCK_SECONDS = 1.0
"""How long the lock is waited for: `in_use` holds it for a moment, and must not have a run refused that begins just then."""


class ResultsDirectory:
    """One folder `results/<suite>`. Make it with `create` (for training) or `open_existing` (for reading)."""

    def __init__(self, path: Path, suite: str) -> None:
        self.path = path
        self.suite = suite
        self.runs_path = path / "runs"
        self.plan_path = path / "plan.parquet"
        self.runs_table_path = path / "runs.parquet"
        self.curves_table_path = path / "curves.parquet"

    @classmethod
    @contextmanager
    def create(cls, path: Path, suite: str) -> Iterator[ResultsDirectory]:
        """Makes or opens the directory for training and holds its lock.

        Raises:
            StoreError: it is locked by another process, belongs to another suite, is of a newer schema, holds somebody else's
                files, or cannot be written to.
        """
        results = cls(path.absolute(), suite)
        with results.locked():
            cls.check(results.path, suite)
            if (results.path / SCHEMA_FILE).is_file():
                migrate(results.path)
            else:
                write_schema(results.path, suite)
            results.runs_path.mkdir(exist_ok=True)
            recover(results.runs_path)
            for leftover in temporary_files(results.path):
                leftover.unlink(missing_ok=True)
            yield results

    @classmethod
    def open_existing(cls, path: Path) -> ResultsDirectory:
        """Opens a directory for reading; needs no lock, for every file in it is whole at any moment.

        Raises:
            StoreError: it is missing, no results directory, or of a newer schema.
        """
        path = path.absolute()
        return cls(path, read_schema(path)["suite"])

    @classmethod
    def check(cls, path: Path, suite: str) -> None:
        """Raises what `create` would raise about an existing directory's content, and writes nothing."""
        if path.is_dir() and any(entry.name != LOCK_FILE for entry in path.iterdir()):
            stored = read_schema(path)["suite"]
            if stored != suite:
                raise StoreError(
                    f'{path}: holds the results of suite "{stored}", not of "{suite}"; '
                    "rename the suite or choose another directory with --results"
                )
        elif path.exists() and not path.is_dir():
            raise StoreError(f"{path}: is a file where the results directory should be; choose another directory with --results")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the lock. Raises StoreError where another process holds it, or the directory cannot be written to."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            held = FileLock(self.path / LOCK_FILE).acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise StoreError(
                f"{self.path}: another gapbench is working in this directory; wait until it ends, or choose another with --results"
            ) from None
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be used ({error.strerror or error}); choose another directory with --results") from error
        with held:
            yield

    def in_use(self) -> bool:
        """Whether another process holds the lock. Writes nothing."""
        if not (self.path / LOCK_FILE).is_file():
            return False
        try:
            with FileLock(self.path / LOCK_FILE).acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # on a disk that cannot be written to nothing trains
            return False

    @property
    def is_bundle(self) -> bool:
        """Whether only the tables are here, as after unpacking a bundle."""
        return not self.runs_path.is_dir()

    def run(self, run_id: str) -> RunDirectory:
        """Returns the folder of a run; it may not exist yet."""
        return RunDirectory(self.runs_path / run_id, run_id)

    def write_plan(self, plan: StoredPlan, resolved_toml: str) -> None:
        """Stores plan.parquet and suite.toml."""
        write_text(self.path / "suite.toml", resolved_toml)
        write_plan(self.plan_path, plan)

    def plan(self) -> StoredPlan:
        """Returns the stored plan. Raises StoreError where there is none yet."""
        return read_plan(self.plan_path)

    def retire(self, run_id: str) -> Path:
        """Moves a run's folder to `<run id>~1`, `~2`, ..., so that it trains anew and the old attempt is not lost; returns the new path."""
        number = 1
        while (target := self.runs_path / f"{run_id}{ATTEMPT_MARK}{number}").exists():
            number += 1
        try:
            (self.runs_path / run_id).rename(target)
        except OSError as error:
            raise StoreError(
                f"{self.runs_path / run_id}: cannot be moved to {target.name} ({error.strerror or error}); close what has it open"
            ) from error
        return target

    def damaged(self, run_ids: Iterable[str]) -> dict[str, str]:
        """Returns those of these runs that have ended and whose files are not what was written, with which file that is."""
        return {run_id: words for run_id in run_ids if (words := self.run(run_id).damage())}

    def attempts(self) -> list[Path]:
        """Returns the folders of old attempts."""
        return sorted(path for path in self.runs_path.glob(f"*{ATTEMPT_MARK}*") if path.is_dir())

    def run_folders(self) -> list[RunDirectory]:
        """Returns every run on disk but old attempts, also those that are no longer planned."""
        if not self.runs_path.is_dir():
            return []
        return [
            RunDirectory(path, path.name)
            for path in sorted(self.runs_path.iterdir())
            if path.is_dir() and ATTEMPT_MARK not in path.name and not path.name.startswith(".")
        ]


def find_results(folder: Path) -> list[Path]:
    """Returns the results directories in `folder` (or `folder` itself, if it is one), by name."""
    if (folder / SCHEMA_FILE).is_file():
        return [folder]
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if (path / SCHEMA_FILE).is_file())


# What a results directory can do without: old attempts, checkpoints of finished runs, half-written files.


@dataclass(frozen=True)
class Leftover:
    """A file or folder that may be removed."""

    path: Path
    what: str
    size_bytes: int
    results: Path | None = None
    """The results directory that it is part of, and whose lock is needed to remove it; None: of none."""


def find_leftovers(results: ResultsDirectory) -> list[Leftover]:
    """Returns what may be removed from a results directory without losing a result or the way to resume one."""
    found = [(path, "old attempt") for path in results.attempts()]
    found += [(path, "half-written file") for path in temporary_files(results.path)]
    unfinished = {run.run_id for run in results.run_folders() if run.outcome() is None}
    for run in results.run_folders():
        header = run.checkpoint()
        # The slices of a whole stack stand in the folder of its first run: the others may still need them.
        needed = {run.run_id, *(header.stack if header else ())} & unfinished
        if run.checkpoint_path.exists() and not needed:
            found.append((run.checkpoint_path, "checkpoint of a finished run"))
        found += [(path, "half-written file") for path in temporary_files(run.path)]
    return [_leftover(path, what, results.path) for path, what in found]


def folder_leftover(folder: Path, what: str) -> list[Leftover]:
    """Returns a whole folder, which is part of no results, as something to remove; empty where it does not exist."""
    return [_leftover(folder, what)] if folder.exists() else []


def remove(leftovers: Iterable[Leftover]) -> None:
    """Removes them. Call it under the results directory's lock.

    Raises:
        StoreError: something cannot be removed.
    """
    for leftover in leftovers:
        try:
            if leftover.path.is_dir():
                shutil.rmtree(leftover.path)
            else:
                leftover.path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{leftover.path}: cannot be removed ({error.strerror or error})") from error


def _leftover(path: Path, what: str, results: Path | None = None) -> Leftover:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return Leftover(path, what, sum(file.stat().st_size for file in files), results)
