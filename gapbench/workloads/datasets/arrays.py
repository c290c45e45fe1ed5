"""What a data set is to the engine: one pool of examples on the device, and index arrays that say which are for what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gapbench.catalog.entries import DatasetEntry
from gapbench.core.errors import DataError
from gapbench.suite.facts import check_finite, conversion


@dataclass(frozen=True)
class Pool:
    """Every example of a data set, training and test, in one pair of arrays."""

    images: npt.NDArray[Any]
    """uint8 [examples, height, width, channels], or float32 [examples, features] for data that are no images."""
    labels: npt.NDArray[np.int64]
    """int64 [examples], 0 .. classes - 1."""
    classes: int
    pixel_max: float
    """The value that means 1.0 (255 for bytes, 16 for digits, 1 for float features)."""
    official_train: int | None
    """The first so many examples are the official training set and the rest the test set; None: the split is drawn."""

    @property
    def is_image(self) -> bool:
        """Whether examples are images, so that crops and flips make sense."""
        return self.images.ndim == 4


@dataclass(frozen=True)
class Split:
    """Indices into a pool, int64, ascending. The index of an example in the pool is its identity in every random stream."""

    train: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    """The held-out part of the training set; empty without `holdout`."""
    train_evaluation: npt.NDArray[np.int64]
    """The fixed part of the training set that `train_accuracy` is computed on: as large as the test set, or all of it."""


# What must hold for any pool, whoever made it, before anything is trained on it.


def check_pool(pool: Pool, place: str) -> Pool:
    """Returns `pool`. Raises DataError, beginning with `place`, where it is not what `Pool` says."""
    check_examples(pool.images, f"{place}: images")
    if pool.labels.dtype != np.int64 or pool.labels.ndim != 1:
        raise DataError(f"{place}: labels must be int64 of shape [examples], not {described(pool.labels)}")
    if len(pool.images) != len(pool.labels):
        raise DataError(f"{place}: {len(pool.images)} images and {len(pool.labels)} labels; each image needs one")
    if pool.classes < 2 or pool.labels.min() < 0 or pool.labels.max() >= pool.classes:
        raise DataError(
            f"{place}: labels run from {pool.labels.min()} to {pool.labels.max()}; "
            f"for {pool.classes} classes they must be 0 to {pool.classes - 1}, and there must be two classes or more"
        )
    if not pool.pixel_max > 0:
        raise DataError(f"{place}: pixel_max must be positive, not {pool.pixel_max}")
    if pool.official_train is not None and not 0 < pool.official_train < len(pool.labels):
        raise DataError(f"{place}: official_train = {pool.official_train} of {len(pool.labels)} leaves no training or no test examples")
    return pool


def check_declared(pool: Pool, entry: DatasetEntry) -> Pool:
    """Returns `pool`. Raises DataError where it is not what its entry in the catalog, which runs are planned by, says."""
    train = entry.train_examples if pool.official_train is None else pool.official_train
    found = {
        "train_examples": train,
        "test_examples": None if train is None else len(pool.labels) - train,
        "shape": pool.images.shape[1:],
        "classes": pool.classes,
        "pixel_max": pool.pixel_max,
        "split": "drawn" if pool.official_train is None else "official",
    }
    for fact, value in found.items():
        declared = getattr(entry, fact)
        if declared not in (None, ()) and declared != value:
            raise DataError(f"{entry.name}: it is declared with {fact} = {declared}, but its pool has {value}; correct the declaration")
    return pool


def check_examples(examples: npt.NDArray[Any], place: str) -> None:
    """Raises DataError unless `examples` are uint8 [n, height, width, channels] or finite float32 [n, features], none of these zero."""
    if (examples.dtype, examples.ndim) not in ((np.dtype(np.uint8), 4), (np.dtype(np.float32), 2)):
        raise DataError(
            f"{place} must be images, uint8 of shape [examples, height, width, channels], "
            f"or features, float32 of shape [examples, features], not {described(examples)}; {conversion(examples)}"
        )
    if 0 in examples.shape:
        raise DataError(f"{place} are empty: shape {list(examples.shape)}")
    check_finite(examples, place)


def described(array: npt.NDArray[Any]) -> str:
    """Returns type and shape in words."""
    return f"{array.dtype} of shape {list(array.shape)}"


# Where data sets are looked for, and where what was decoded from them is kept.


@dataclass(frozen=True)
class DataContext:
    """The places that a data set may read from and write to."""

    data_dir: Path | None
    """Holds the official files in torchvision's layout, possibly read-only (`--data-dir`, GAPBENCH_DATA); None: `cache_dir/data`."""
    cache_dir: Path
    """Always writable: decoded arrays, remembered checksums, and downloads where no data directory is named."""
    offline: bool = False
    """Never touch the network."""
    suite_dir: Path | None = None
    """What a path in a suite file is relative to; None: the working directory."""

    @property
    def root(self) -> Path:
        """The directory that official files are read from and downloaded to."""
        return self.data_dir if self.data_dir is not None else self.cache_dir / "data"

    @property
    def decoded_dir(self) -> Path:
        """The directory of decoded data sets."""
        return self.cache_dir / "datasets"
