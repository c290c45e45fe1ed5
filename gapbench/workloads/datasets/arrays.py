"""What a data set is to the engine: one pool of examples on the device, and index arrays that say which are for what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


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
