"""A user's own arrays: an .npz file with x_train, y_train, x_test and y_test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gapbench.core.errors import DataError
from gapbench.core.hashing import content_hash
from gapbench.suite.facts import check_arrays, read_arrays
from gapbench.workloads.datasets.arrays import DataContext, Pool
from gapbench.workloads.datasets.cache import cached, known_md5, write_atomically


def npz(context: DataContext, *, path: str, content: str = "") -> Pool:
    """Returns the arrays of an .npz file, training examples first; the file's own split is kept.

    Examples are images, uint8 [n, height, width] or [n, height, width, channels], or features, float32 [n, features].
    Labels are integers 0 .. classes - 1, each of which occurs in y_train.

    Args:
        context: its `suite_dir` is what `path` is relative to.
        path: of the file.
        content: hash of the four arrays that the run was planned with, part of its identity; empty: whatever the file holds.

    Raises:
        DataError: the file is missing, has other content, or is not of this form; the text names the array.
    """
    file = (context.suite_dir or Path.cwd()) / Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"npz: there is no file {file}; `path` is relative to the directory of the suite file")
    md5 = known_md5(file, context.decoded_dir)
    pool = cached("npz", {"file": md5}, lambda: read_npz(file), context.decoded_dir)
    if content:
        _insist_on(content, file, md5, context.decoded_dir)
    return pool


def read_npz(file: Path) -> Pool:
    """Returns the pool of an .npz file, without the cache. Raises DataError as `npz` does."""
    x_train, y_train, x_test, y_test = read_arrays(file)
    classes = check_arrays(x_train, y_train, x_test, y_test, str(file))
    images = np.concatenate([x_train, x_test])
    pixel_max = 255.0 if images.dtype == np.uint8 else 1.0
    labels = np.concatenate([y_train, y_test]).astype(np.int64)
    return Pool(images[..., None] if images.ndim == 3 else images, labels, classes, pixel_max, len(x_train))


def _insist_on(content: str, file: Path, md5: str, decoded_dir: Path) -> None:
    """Raises DataError where the arrays are not those that the run was planned with. Their hash is remembered by the file's MD5."""
    note = decoded_dir / "content" / md5
    try:
        found = note.read_text(encoding="utf-8")
    except OSError:  # not there yet
        found = content_hash(*read_arrays(file))
        write_atomically(note, found.encode())
    if found != content:
        raise DataError(
            f"{file} holds other arrays than those that the run was planned with (hash {found}, expected {content}); "
            "bring back that file, or start again with this one"
        )
