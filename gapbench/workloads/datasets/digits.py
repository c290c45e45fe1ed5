"""Digits: 1,797 handwritten digits that come with scikit-learn, so that everything works with no download.

Alpaydin and Kaynak 1998, UCI Optical Recognition of Handwritten Digits (its test part): counts of ink, 0 to 16, on an 8x8 grid.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from gapbench.core.errors import DataError
from gapbench.core.hashing import content_hash
from gapbench.workloads.datasets.arrays import DataContext, Pool
from gapbench.workloads.datasets.cache import cached

CONTENT = "89b375889396150e"
"""Hash of the images and labels that every result on digits was computed from."""


def digits(context: DataContext) -> Pool:
    """Returns all 1,797 digits, uint8 [1797, 8, 8, 1], 0 .. 16. The split is drawn: 900 for training, 897 for test.

    Raises:
        DataError: scikit-learn's data have changed.
    """
    return cached("digits", {"scikit-learn": metadata.version("scikit-learn")}, _decode, context.decoded_dir)


def _decode() -> Pool:
    from sklearn.datasets import load_digits  # takes a second: only where the cache is empty

    bunch = load_digits()
    images: npt.NDArray[Any] = np.asarray(bunch.images).astype(np.uint8)[..., np.newaxis]
    labels = np.asarray(bunch.target).astype(np.int64)
    found = content_hash(images, labels)
    if found != CONTENT:
        raise DataError(
            f"digits: the data in scikit-learn {metadata.version('scikit-learn')} are not the known ones "
            f"(hash {found}, expected {CONTENT}); install another version of scikit-learn"
        )
    return Pool(images, labels, classes=10, pixel_max=16.0, official_train=None)
