"""The format of CIFAR-10 and CIFAR-100: pickled dictionaries, read by an unpickler that builds arrays and nothing else."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gapbench.workloads.datasets.arrays import Pool
from gapbench.workloads.datasets.official import OfficialDataset, OfficialFile

_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    # numpy's own name for this function has moved; an array knows where it is
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
}


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles plain containers and numpy arrays; anything else that a file asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns one of the few allowed names. Raises pickle.UnpicklingError for every other one."""
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"a data file may not ask for {module}.{name}") from None


def parse_batch(content: bytes, label_key: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Returns images, uint8 [examples, 32, 32, 3], and labels, int64 [examples], of one batch file.

    Raises ValueError or pickle.UnpicklingError where `content` is no such file.
    """
    batch = ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    planes, labels = np.asarray(batch["data"]), np.asarray(batch[label_key], np.int64)
    if planes.dtype != np.uint8 or planes.shape != (len(labels), 3 * 32 * 32):
        raise ValueError(f"{len(labels)} labels, and pixels of type {planes.dtype} and shape {planes.shape}")
    return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def decode_cifar(contents: Iterable[bytes], label_key: str, classes: int) -> Pool:
    """Returns the pool of batch files, the last of which is the test set."""
    batches = [parse_batch(content, label_key) for content in contents]
    images: npt.NDArray[Any] = np.ascontiguousarray(np.concatenate([images for images, _ in batches]))
    labels = np.concatenate([labels for _, labels in batches])
    return Pool(images, labels, classes, pixel_max=255.0, official_train=len(labels) - len(batches[-1][1]))


# CIFAR-10: Krizhevsky 2009. Checksums: torchvision's.

cifar10 = OfficialDataset(
    name="cifar10",
    files=(
        OfficialFile("cifar-10-batches-py/data_batch_1", "c99cafc152244af753f735de768cd75f"),
        OfficialFile("cifar-10-batches-py/data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        OfficialFile("cifar-10-batches-py/data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        OfficialFile("cifar-10-batches-py/data_batch_4", "634d18415352ddfa80567beed471001a"),
        OfficialFile("cifar-10-batches-py/data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
        OfficialFile("cifar-10-batches-py/test_batch", "40351d587109b95175f43aff81a1287e"),
    ),
    decode=partial(decode_cifar, label_key="labels", classes=10),
    torchvision_class="CIFAR10",
)
"""60,000 color photographs, 32x32, 50,000 of them for training, in the order of the batch files."""


# CIFAR-100 with its fine labels: Krizhevsky 2009. Checksums: torchvision's.

cifar100 = OfficialDataset(
    name="cifar100",
    files=(
        OfficialFile("cifar-100-python/train", "16019d7e3df5f24257cddd939b257f8d"),
        OfficialFile("cifar-100-python/test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
    ),
    decode=partial(decode_cifar, label_key="fine_labels", classes=100),
    torchvision_class="CIFAR100",
)
"""60,000 color photographs, 32x32, 50,000 of them for training, in 100 classes."""
