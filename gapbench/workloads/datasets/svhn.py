"""SVHN, house numbers cropped to their digits: Netzer et al. 2011. Checksums: torchvision's."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from gapbench.workloads.datasets.arrays import Pool
from gapbench.workloads.datasets.official import OfficialDataset, OfficialFile

TRAIN = OfficialFile("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", torchvision_split="train")
EXTRA = OfficialFile("extra_32x32.mat", "a93ce644f1a588dc4d68dda5feec44a7", torchvision_split="extra")
TEST = OfficialFile("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", torchvision_split="test")


def decode_svhn(contents: Iterable[bytes]) -> Pool:
    """Returns the pool of SVHN's files, the test file last. Raises ValueError where a file has not their form."""
    parts = [parse_mat(content) for content in contents]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Pool(images, labels, classes=10, pixel_max=255.0, official_train=len(labels) - len(parts[-1][1]))


def parse_mat(content: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Returns images, uint8 [examples, 32, 32, 3], and labels, int64 [examples], of one file; the label 10 of the digit 0 becomes 0.

    Raises:
        ValueError: `content` is no such file.
    """
    from scipy.io import loadmat  # only where the cache is empty
    from scipy.io.matlab import MatReadError

    stream: Any = io.BytesIO(content)  # scipy reads it; its type stubs know file names only
    try:
        file = loadmat(stream, variable_names=["X", "y"])
    except (MatReadError, ValueError, NotImplementedError, TypeError, OSError, zlib.error) as error:
        raise ValueError(f"it cannot be read as a MATLAB file: {error}") from error
    pixels, labels = np.asarray(file["X"]), np.asarray(file["y"]).reshape(-1).astype(np.int64)
    if pixels.dtype != np.uint8 or pixels.shape != (32, 32, 3, len(labels)):
        raise ValueError(f"{len(labels)} labels, and pixels of type {pixels.dtype} and shape {pixels.shape}")
    if len(labels) == 0 or labels.min() < 1 or labels.max() > 10:
        raise ValueError("labels must be 1 to 10")
    return np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), labels % 10


svhn = OfficialDataset(name="svhn", files=(TRAIN, TEST), decode=decode_svhn, torchvision_class="SVHN")
"""99,289 digits, 32x32, 73,257 of them for training."""

svhn_extra = OfficialDataset(name="svhn-extra", files=(TRAIN, EXTRA, TEST), decode=decode_svhn, torchvision_class="SVHN")
"""The same with 531,131 more, easier training images."""
