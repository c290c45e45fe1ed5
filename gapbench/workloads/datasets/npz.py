"""A user's own arrays: an .npz file with x_train, y_train, x_test and y_test."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gapbench.core.errors import DataError
from gapbench.core.hashing import content_hash
from gapbench.suite.facts import count_classes
from gapbench.workloads.datasets.arrays import DataContext, Pool, check_examples, described
from gapbench.workloads.datasets.cache import cached, known_md5, write_atomically

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


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
    x_train, y_train, x_test, y_test = _arrays(file)
    x_train, x_test = _examples(x_train, f"{file}: x_train"), _examples(x_test, f"{file}: x_test")
    if x_train.dtype != x_test.dtype or x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(f"{file}: x_train is {described(x_train)} and x_test {described(x_test)}; only their lengths may differ")
    y_train, y_test = _labels(y_train, x_train, f"{file}: y_train"), _labels(y_test, x_test, f"{file}: y_test")
    classes = count_classes(y_train, y_test, str(file))
    pixel_max = 255.0 if x_train.dtype == np.uint8 else 1.0
    return Pool(np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test]), classes, pixel_max, len(x_train))


def _insist_on(content: str, file: Path, md5: str, decoded_dir: Path) -> None:
    """Raises DataError where the arrays are not those that the run was planned with. Their hash is remembered by the file's MD5."""
    note = decoded_dir / "content" / md5
    try:
        found = note.read_text(encoding="utf-8")
    except OSError:  # not there yet
        found = content_hash(*_arrays(file))
        write_atomically(note, found.encode())
    if found != content:
        raise DataError(
            f"{file} holds other arrays than those that the run was planned with (hash {found}, expected {content}); "
            "bring back that file, or start again with this one"
        )


def _arrays(file: Path) -> list[npt.NDArray[Any]]:
    if not zipfile.is_zipfile(file):
        raise DataError(f"{file} is no .npz file; save one with numpy.savez(file, x_train=..., y_train=..., x_test=..., y_test=...)")
    try:
        with np.load(file, allow_pickle=False) as archive:
            missing = [name for name in ARRAYS if name not in archive]
            if missing:
                has = ", ".join(archive) or "none"
                raise DataError(f"{file}: no array {' and no '.join(missing)}; it needs {', '.join(ARRAYS)} and has {has}")
            return [archive[name] for name in ARRAYS]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{file} cannot be read as an .npz file of plain arrays: {error}") from error


def _examples(examples: npt.NDArray[Any], place: str) -> npt.NDArray[Any]:
    if examples.dtype == np.uint8 and examples.ndim == 3:
        examples = examples[..., np.newaxis]
    check_examples(examples, place)
    return examples


def _labels(labels: npt.NDArray[Any], examples: npt.NDArray[Any], place: str) -> npt.NDArray[np.int64]:
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"{place} must be integers of shape [examples], not {described(labels)}")
    if len(labels) != len(examples):
        raise DataError(f"{place} has {len(labels)} labels for {len(examples)} examples")
    return labels.astype(np.int64)
