"""MD5 checksums of data files, remembered by size and time of change, so that a file is read for its checksum only once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from gapbench.core.errors import DataError


def md5_of_bytes(content: bytes) -> str:
    """Returns the MD5 of bytes, in hexadecimal. It guards against damage, not against an attacker."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def md5_of_file(path: Path) -> str:
    """Returns the MD5 of a file, reading all of it. Raises DataError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def known_md5(path: Path, decoded_dir: Path) -> str:
    """Returns the MD5 of a file, from `decoded_dir` where the file has not changed in size or time since it was last read.

    Raises:
        DataError: the file cannot be read, or the checksum cannot be written down.
    """
    try:
        path = path.resolve()
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    stamp = {"path": str(path), "size": status.st_size, "changed_ns": status.st_mtime_ns}
    note = decoded_dir / "checksums" / f"{md5_of_bytes(str(path).encode())}.json"
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = None  # not there yet, or damaged: read the file
    if isinstance(known, dict) and known.items() >= stamp.items() and isinstance(known.get("md5"), str):
        return str(known["md5"])
    md5 = md5_of_file(path)
    write_atomically(note, json.dumps({**stamp, "md5": md5}).encode())
    return md5


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a small file of the cache so that no reader ever sees a part of it. Raises DataError where that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable_cache(path.parent, error) from error


def unreadable(path: Path, error: OSError) -> DataError:
    """Returns the error for a data file that is there and cannot be read."""
    return DataError(f"{path} cannot be read: {error.strerror or error}; check its permissions")


def unwritable_cache(folder: Path, error: OSError) -> DataError:
    """Returns the error for a cache that cannot be written to."""
    return DataError(
        f"the cache {folder} cannot be written to: {error.strerror or error}; set GAPBENCH_CACHE to a writable directory with space"
    )
