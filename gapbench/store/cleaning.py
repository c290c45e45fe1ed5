"""What a results directory can do without: old attempts, checkpoints of finished runs, half-written files."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gapbench.core.errors import StoreError
from gapbench.store.directory import ResultsDirectory
from gapbench.store.files import temporary_files


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
