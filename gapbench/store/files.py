"""Files that are whole or absent: written beside their place, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from gapbench.core.errors import StoreError, UnwritableError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
TEMPORARY_SUFFIX = ".tmp"

_counter = itertools.count()


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Calls `write` with an open file that becomes `path` only once it is complete and on the disk.

    Whoever opens `path` at any moment sees the old content or the new, also after a kill or a loss of power.

    Raises:
        StoreError: the file cannot be written (no permission, disk full).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{next(_counter)}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        refused = _refusal(error)
        if refused is None or refused.errno not in READ_ONLY:
            temporary.unlink(missing_ok=True)
        if refused is None:
            raise
        raise unwritten(path, refused) from error
    sync_folder(path.parent)


def _refusal(error: BaseException | None) -> OSError | None:
    """Returns what the system said; torch.save makes a RuntimeError of it."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def unwritten(path: Path, error: OSError) -> StoreError:
    """Returns in words that a file or folder cannot be written, and what helps."""
    if error.errno in READ_ONLY:
        return UnwritableError(f"{path}: cannot be written ({error.strerror}); choose another place with --results")
    return StoreError(f"{path}: cannot be written ({error.strerror or error}); free some space or choose another place with --results")


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turns what the system says against writing `path` into StoreError."""
    try:
        yield
    except OSError as error:
        raise unwritten(path, error) from error


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yields a folder to fill, which becomes `path` only once everything in it is written; nothing is left of it after an error.

    Raises:
        StoreError: `path` exists, or the folder cannot be made or renamed.
    """
    if path.exists():
        raise StoreError(f"{path}: exists already; choose another name")
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{next(_counter)}{TEMPORARY_SUFFIX}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error}); free some space or choose another name") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes bytes atomically."""
    write_atomically(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Writes text as UTF-8, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically. Floats that are not finite become the strings "NaN", "Infinity", "-Infinity"."""
    write_text(path, json.dumps(to_json(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        StoreError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); remove the folder it stands in to have its content made again") from error


def read_json_or_none(path: Path) -> Any | None:
    """Reads JSON that may be missing or damaged: then None, as if it had never been written."""
    try:
        return read_json(path)
    except StoreError:
        return None


def to_json(value: Any) -> Any:
    """Returns `value` with floats that JSON cannot hold as strings that `float` understands."""
    if isinstance(value, float):
        return value if math.isfinite(value) else json.dumps(value)
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries, so that a rename survives a loss of power; Windows has nothing of the kind."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse; the rename itself is still atomic
        pass
    finally:
        os.close(descriptor)


def temporary_files(folder: Path) -> list[Path]:
    """Returns what killed processes left behind in `folder`. Only the holder of the folder's lock may remove them."""
    return sorted(folder.glob(f".*{TEMPORARY_SUFFIX}"))
