"""The format of CIFAR-10 and CIFAR-100: pickled dictionaries, read by an unpickler that builds arrays and nothing else."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from gapbench.workloads.datasets.arrays import Pool

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
