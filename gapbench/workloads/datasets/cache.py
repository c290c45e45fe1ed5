"""Decoded data sets on disk: written once, atomically, and then mapped into memory by every process that trains."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from gapbench.core.errors import DataError
from gapbench.core.progress import say
from gapbench.workloads.datasets.arrays import Pool, check_pool

_counter = itertools.count()

# MD5 checksums of data files, remembered by size and time of change, so that a file is read for its checksum only once.


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
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{next(_counter)}.tmp")  # `tempfile` would keep others from reading it
        try:
            with temporary.open("xb") as file:
                file.write(content)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
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


FORMAT = 1
"""Raised whenever the files of an entry, or what decoders put into them, change."""

KEPT_IN_MEMORY = 4
"""Pools that a process remembers: they are only mapped, so what this bounds is open files more than memory."""

COPY_ON_WRITE_BYTES = 1 << 32
"""Files from this size on are mapped read-only."""

_in_memory: OrderedDict[Path, Pool] = OrderedDict()


def cached(name: str, checksums: Mapping[str, str], decode: Callable[[], Pool], decoded_dir: Path) -> Pool:
    """Returns a decoded data set from the cache, decoding it first where it is not there.

    Several processes may ask at the same time: one decodes, the others wait for it. A process that is killed leaves
    nothing that is taken for an entry.

    Args:
        name: of the data set.
        checksums: of everything that `decode` reads, by file: a changed file is another entry.
        decode: reads the files.
        decoded_dir: where entries are kept.

    Raises:
        DataError: from `decode`, or where the cache cannot be written to.
    """
    return _remembered(_entry(name, checksums, decoded_dir), lambda entry: _decode(entry, decode))


def cached_in_place(name: str, checksums: Mapping[str, str], fill: Callable[[Path], None], decoded_dir: Path) -> Pool:
    """Returns a data set from the cache that is too large to be decoded in memory.

    Several processes may ask at the same time: one fills the entry, the others wait for it. A process that is killed leaves a folder of
    another name, `.NAME.partial`, that the next one goes on with.

    Args:
        name: of the data set.
        checksums: of everything that `fill` reads, as for `cached`.
        fill: writes the files of an entry into the folder that it is given, which may hold what an earlier call left; `write_pool` last.
        decoded_dir: where entries are kept.

    Raises:
        DataError: from `fill`, or where the cache cannot be written to.
    """
    return _remembered(_entry(name, checksums, decoded_dir), lambda entry: _fill(entry, fill))


def write_pool(folder: Path, labels: npt.NDArray[np.int64], facts: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Writes what an entry has besides its images.

    Args:
        folder: of the entry.
        labels: of the examples.
        facts: `classes`, `pixel_max` and `official_train` of the pool.
        manifest: what it was made from, for people; nothing reads it.
    """
    _save(folder / "labels.npy", labels)
    (folder / "manifest.json").write_text(json.dumps(dict(manifest), indent=1), encoding="utf-8", errors="surrogateescape")
    (folder / "pool.json").write_text(json.dumps(dict(facts)), encoding="utf-8")


def _entry(name: str, checksums: Mapping[str, str], decoded_dir: Path) -> Path:
    key = md5_of_bytes(json.dumps([FORMAT, name, sorted(checksums.items())]).encode())[:16]
    return decoded_dir / f"{name}-{key}"


def _remembered(entry: Path, make: Callable[[Path], Pool]) -> Pool:
    pool = _in_memory.get(entry)
    if pool is None:
        pool = _read(entry) or make(entry)
        _in_memory[entry] = pool
        while len(_in_memory) > KEPT_IN_MEMORY:
            _in_memory.popitem(last=False)
    _in_memory.move_to_end(entry)
    return pool


def forget() -> None:
    """Drops the pools that this process keeps in memory."""
    _in_memory.clear()


def _locked(entry: Path) -> FileLock:
    """Returns the lock of an entry, taken: whoever else makes the entry is waited for."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(entry.with_name(f"{entry.name}.lock"))
        try:
            lock.acquire(timeout=5.0)
        except Timeout:
            say(f"waiting for another process that decodes {entry.name}")
            lock.acquire()
    except OSError as error:
        raise unwritable_cache(entry.parent, error) from error
    return lock


def _fill(entry: Path, fill: Callable[[Path], None]) -> Pool:
    lock = _locked(entry)
    try:
        pool = _read(entry)
        if pool is None:
            partial = entry.with_name(f".{entry.name}.partial")
            try:
                fill(partial)
                if entry.exists():
                    shutil.rmtree(entry)  # unreadable: `_read` has refused it
                partial.rename(entry)
            except OSError as error:
                raise unwritable_cache(entry.parent, error) from error
            pool = _read(entry)
            if pool is None:
                raise DataError(f"the cache {entry} cannot be read right after it was written; delete it and start again")
        return check_pool(pool, entry.name)
    finally:
        lock.release()


def _decode(entry: Path, decode: Callable[[], Pool]) -> Pool:
    lock = _locked(entry)
    try:
        pool = _read(entry)  # another process may have decoded it while this one waited
        if pool is None:
            decoded = check_pool(decode(), entry.name)
            try:
                _write(entry, decoded)
            except OSError as error:
                raise unwritable_cache(entry.parent, error) from error
            pool = _read(entry) or decoded  # mapped, so that processes share one copy; the arrays are the same
        return pool
    finally:
        lock.release()


def _write(entry: Path, pool: Pool) -> None:
    """Writes an entry into a folder of its own and then gives that its name: whoever sees the name sees all of it."""
    facts = {"classes": pool.classes, "pixel_max": pool.pixel_max, "official_train": pool.official_train}
    for left in entry.parent.glob(f".{entry.name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed: whoever writes holds the lock
    temporary = entry.with_name(f".{entry.name}.{os.getpid()}-{next(_counter)}.tmp")
    temporary.mkdir()
    try:
        for name, array in (("images", pool.images), ("labels", pool.labels)):
            _save(temporary / f"{name}.npy", array)
        (temporary / "pool.json").write_text(json.dumps(facts), encoding="utf-8")
        if entry.exists():
            shutil.rmtree(entry)  # unreadable: `_read` has refused it
        temporary.rename(entry)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def _read(entry: Path) -> Pool | None:
    """Returns the pool of an entry, or None where there is none that can be read: then it is decoded again."""
    try:
        facts = json.loads((entry / "pool.json").read_text(encoding="utf-8"))
        images, labels = (_map(entry / f"{name}.npy") for name in ("images", "labels"))
    except (OSError, ValueError, EOFError):
        return None
    if len(images) != len(labels):
        return None
    return Pool(images, labels, facts["classes"], facts["pixel_max"], facts["official_train"])


def _map(path: Path) -> npt.NDArray[Any]:
    """Maps an array. Copy-on-write: the file stays as it is, and torch takes the array without a copy and without a warning.

    A large one read-only: of copy-on-write the system wants to be sure that it could hold all copies.
    """
    mode: Literal["c", "r"] = "c" if path.stat().st_size < COPY_ON_WRITE_BYTES else "r"
    return np.asarray(np.load(path, mmap_mode=mode, allow_pickle=False))
