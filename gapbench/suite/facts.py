"""What planning needs to know about a data set without loading it: sizes, shape, classes."""

from __future__ import annotations

import functools
import zipfile
from dataclasses import dataclass
from pathlib import Path

from gapbench import catalog
from gapbench.core.errors import DataError
from gapbench.core.paths import shown
from gapbench.suite import image_folder
from gapbench.suite.runspec import Component

NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class DatasetFacts:
    """Sizes of a data set before any subset."""

    train_examples: int
    test_examples: int
    shape: tuple[int, ...]
    """(height, width, channels) or (features,)."""
    classes: int
    content: str = ""
    """Hash of the arrays where they are the user's own."""

    @property
    def is_image(self) -> bool:
        """Whether examples are images."""
        return len(self.shape) == 3


def dataset_facts(component: Component) -> DatasetFacts:
    """Returns the facts of a data set; those of `npz` and `imagefolder` come from the user's files.

    Raises:
        DataError: files that are missing or not in the expected form.
    """
    entry = catalog.datasets()[component.name]
    if component.name == "imagefolder":
        return image_folder_facts(component)
    if entry.train_examples is None or entry.test_examples is None or entry.classes is None:
        return npz_facts(Path(str(component.option("path", ""))))
    return DatasetFacts(entry.train_examples, entry.test_examples, entry.shape, entry.classes)


def image_folder_facts(component: Component) -> DatasetFacts:
    """Returns the facts of an image folder; where its content is known and was counted before, without a look at the folder.

    Raises:
        DataError: the folder is missing or not in the expected form, or a file cannot be read.
    """
    size, content = int(component.option("size")), str(component.option("content", ""))
    known = image_folder.counted(content) if content else None
    if known is None:
        known = image_folder.count(Path(str(component.option("path", ""))))
    return DatasetFacts(known.train_examples, known.test_examples, (size, size, 3), known.classes, known.content)


def npz_facts(path: Path) -> DatasetFacts:
    """Returns the facts of an .npz file with x_train, y_train, x_test, y_test.

    Raises:
        DataError: a file that is missing or not in the expected form.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {error.strerror}; name an .npz file with {', '.join(NPZ_ARRAYS)}") from error
    return _read_npz(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=16)
def _read_npz(path: Path, modified: int, size: int) -> DatasetFacts:
    import numpy as np  # a third of the time that it takes to import this room, and only needed here

    from gapbench.core.hashing import content_hash

    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in NPZ_ARRAYS if name not in file]
            if missing:
                raise DataError(f"{shown(path)} has no {', '.join(missing)}; it must have {', '.join(NPZ_ARRAYS)}")
            x_train, y_train, x_test, y_test = (file[name] for name in NPZ_ARRAYS)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"{shown(path)} is no .npz file of plain arrays ({error}); write it with numpy.savez") from error
    for part, images, labels in (("train", x_train, y_train), ("test", x_test, y_test)):
        if labels.ndim != 1 or len(labels) != len(images) or not len(images) or labels.dtype.kind not in "iu" or labels.min() < 0:
            wanted = f"one whole number of at least 0 for each of the {len(images)} examples of x_{part}"
            raise DataError(f"{shown(path)}: y_{part} must hold {wanted}")
    for part, images in (("train", x_train), ("test", x_test)):
        if (images.dtype == np.uint8) != (images.ndim in (3, 4)) or (images.dtype == np.float32) != (images.ndim == 2):
            raise DataError(
                f"{shown(path)}: x_{part} must be images as uint8 [n, height, width(, channels)] or features as float32 [n, features], "
                f'not {images.dtype} {list(images.shape)}; convert it, for example with .astype("float32")'
            )
    if x_train.shape[1:] != x_test.shape[1:] or x_train.ndim not in (2, 3, 4):
        raise DataError(
            f"{shown(path)}: x_train {x_train.shape} and x_test {x_test.shape} must be images [n, height, width(, channels)] "
            "or features [n, features] of one size"
        )
    shape = (*x_train.shape[1:], 1) if x_train.ndim == 3 else tuple(x_train.shape[1:])
    classes = int(max(y_train.max(), y_test.max())) + 1
    return DatasetFacts(len(x_train), len(x_test), shape, classes, content_hash(x_train, y_train, x_test, y_test))


def held_out(examples: int, fraction: float) -> int:
    """Returns how many of the training examples `holdout` keeps for validation."""
    return round(fraction * examples)
