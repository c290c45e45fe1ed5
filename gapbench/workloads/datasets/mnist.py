"""MNIST: LeCun, Cortes and Burges 1998. Checksums: torchvision's for .gz; the unpacked files' are those of its contents."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gapbench.workloads.datasets.arrays import Pool
from gapbench.workloads.datasets.official import OfficialDataset, OfficialFile

# The idx format of MNIST and its relatives: http://yann.lecun.com/exdb/mnist (magic number, big-endian sizes, bytes).

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


mnist = OfficialDataset(
    name="mnist",
    files=idx_files(
        "MNIST",
        [
            ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", "d53e105ee54ea40749a09fcbcd1e9432"),
            ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", "9fb629c4189551a2d022fa330f9573f3"),
            ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", "ec29112dd5afa0611ce80d1b7f02629c"),
        ],
    ),
    decode=decode_idx,
    torchvision_class="MNIST",
)
"""70,000 handwritten digits, 28x28, 60,000 of them for training."""


# Fashion-MNIST: Xiao, Rasul and Vollgraf 2017. Checksums: torchvision's for .gz; the unpacked files' are those of its contents.

fashion_mnist = OfficialDataset(
    name="fashion-mnist",
    files=idx_files(
        "FashionMNIST",
        [
            ("train-images-idx3-ubyte", "f4a8712d7a061bf5bd6d2ca38dc4d50a", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte", "9018921c3c673c538a1fc5bad174d6f9", "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte", "8181f5470baa50b63fa0f6fddb340f0a", "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte", "15d484375f8d13e6eb1aabb0c3f46965", "bb300cfdad3c16e7a12a480ee83cd310"),
        ],
    ),
    decode=decode_idx,
    torchvision_class="FashionMNIST",
)
"""70,000 pictures of clothes, 28x28, 60,000 of them for training."""
