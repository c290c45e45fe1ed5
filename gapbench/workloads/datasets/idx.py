"""The idx format of MNIST and its relatives: http://yann.lecun.com/exdb/mnist (magic number, big-endian sizes, bytes)."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gapbench.workloads.datasets.arrays import Pool
from gapbench.workloads.datasets.official import OfficialFile

UNSIGNED_BYTE = 0x08
"""The only element type that these data sets use."""


def idx_files(folder: str, checksums: Sequence[tuple[str, str, str]]) -> tuple[OfficialFile, ...]:
    """Returns the files of a data set in idx format, from (name, MD5, MD5 of name.gz)."""
    return tuple(OfficialFile(f"{folder}/raw/{name}", md5, packed_md5) for name, md5, packed_md5 in checksums)


def parse_idx(content: bytes) -> npt.NDArray[np.uint8]:
    """Returns the array of an idx file of unsigned bytes. Raises ValueError where `content` is none."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UNSIGNED_BYTE:
        raise ValueError("no idx file of unsigned bytes")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    if len(content) != start + math.prod(shape):
        raise ValueError(f"an idx file of shape {shape} has {start + math.prod(shape)} bytes, this one {len(content)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def decode_idx(contents: Iterable[bytes]) -> Pool:
    """Returns the pool of four idx files: training images, training labels, test images, test labels; ten classes."""
    train_images, train_labels, test_images, test_labels = (parse_idx(content) for content in contents)
    images: npt.NDArray[Any] = np.concatenate([train_images, test_images])[..., np.newaxis]
    labels = np.concatenate([train_labels, test_labels]).astype(np.int64)
    return Pool(images, labels, classes=10, pixel_max=255.0, official_train=len(train_images))
