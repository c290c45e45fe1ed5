"""Decoded data sets on disk: written once, atomically, and then mapped into memory by every process that trains."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from gapbench.workloads.datasets.arrays import Pool
from gapbench.workloads.datasets.check import check_pool
from gapbench.workloads.datasets.checksums import md5_of_bytes, unwritable_cache

FORMAT = 1
"""Raised whenever the files of an entry, or what decoders put into them, change."""

KEPT_IN_MEMORY = 4
"""Pools that a process remembers: they are only mapped, so what this bounds is open files more than memory."""

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
    key = md5_of_bytes(json.dumps([FORMAT, name, sorted(checksums.items())]).encode())[:16]
    entry = decoded_dir / f"{name}-{key}"
    pool = _in_memory.get(entry)
    if pool is None:
        pool = _read(entry) or _decode(entry, decode)
        _in_memory[entry] = pool
        while len(_in_memory) > KEPT_IN_MEMORY:
            _in_memory.popitem(last=False)
    _in_memory.move_to_end(entry)
    return pool


def forget() -> None:
    """Drops the pools that this process keeps in memory."""
    _in_memory.clear()


def _decode(entry: Path, decode: Callable[[], Pool]) -> Pool:
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(entry.with_name(f"{entry.name}.lock"))
        lock.acquire()
    except OSError as error:
        raise unwritable_cache(entry.parent, error) from error
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
    temporary = Path(tempfile.mkdtemp(dir=entry.parent, prefix=f".{entry.name}.", suffix=".tmp"))
    try:
        for name, array in (("images", pool.images), ("labels", pool.labels)):
            with (temporary / f"{name}.npy").open("wb") as file:
                np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        (temporary / "pool.json").write_text(json.dumps(facts), encoding="utf-8")
        if entry.exists():
            shutil.rmtree(entry)  # unreadable: `_read` has refused it
        temporary.rename(entry)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


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
    """Maps an array. Copy-on-write: the file stays as it is, and torch takes the array without a copy and without a warning."""
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
