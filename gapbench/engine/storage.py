"""Where the examples of a pool lie while a run trains, and how those of a batch come from there.

A pool that fits lies on the device as one tensor (`Resident`). One that does not stays where it is, mapped from the disk, and the
examples of a block are gathered on the host (`Streamed`). Both give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int, Shaped, UInt8
from torch import Tensor

from gapbench.core.errors import TrainingError
from gapbench.core.machine import MIB, free_memory_mib
from gapbench.core.progress import say
from gapbench.sizing.decisions import RESIDENT_SHARE
from gapbench.suite.runspec import Normalization, RunSpec
from gapbench.workloads.datasets.arrays import Pool, Split

GATHERERS = 8
"""Threads that copy the examples of a block: while one waits for the disk, others go on."""
FEW_BYTES = 1 << 20
"""Of a block that is gathered by one thread alone."""

Indices = Int[Tensor, "replica examples"]


@dataclass(frozen=True)
class Window:
    """What is cut from each image, in the coordinates of the padded image. Of data that are no images: all of it."""

    height: int
    width: int
    tops: int
    """From how many rows a crop may begin: 0 .. tops - 1."""
    lefts: int
    padding: int = 0
    fill: int = 0

    @property
    def middle(self) -> tuple[int, int]:
        """Where the central crop begins, as torchvision's CenterCrop rounds it."""
        return round((self.tops - 1) / 2.0), round((self.lefts - 1) / 2.0)


def window_of(pool: Pool, spec: RunSpec) -> Window:
    """Returns what a run cuts from the images of a pool."""
    if not pool.is_image:
        return Window(1, pool.images.shape[1], 1, 1)
    _, height, width, _ = pool.images.shape
    if spec.crop_size:
        return Window(spec.crop_size, spec.crop_size, height - spec.crop_size + 1, width - spec.crop_size + 1)
    choices = 2 * spec.crop_padding + 1
    return Window(height, width, choices, choices, spec.crop_padding, spec.crop_fill)


class Resident:
    """The whole pool on the device, padded once."""

    def __init__(self, pool: Pool, window: Window, device: torch.device) -> None:
        self.home = device
        """Where indices are wanted and labels lie."""
        self._images = torch.from_numpy(_padded(pool.images, window.padding, window.fill)).to(device)
        self._windows = _windows(self._images, window) if pool.is_image else self._images
        self._is_image = pool.is_image
        self._on_host = self._windows.numpy() if device.type == "cpu" else None
        """The same memory, where NumPy copies it: by whole rows, ten times as fast as torch, which goes byte by byte."""

    def gather(self, indices: Indices, tops: Indices, lefts: Indices) -> Shaped[Tensor, "replica examples ..."]:
        """Returns a crop of each example, [replica, examples, height, width * channels], or its features."""
        places = indices
        if self._is_image:
            _, height, width, _ = self._images.shape
            places = (indices * height + tops) * width + lefts
        return self._windows[places] if self._on_host is None else torch.from_numpy(self._on_host[places.numpy()])

    def whole(self, indices: Indices) -> UInt8[Tensor, "replica examples height row"]:
        """Returns each image whole, [replica, examples, height, width * channels]."""
        return self._images[indices].flatten(3)

    def ready(self, words: Tensor) -> Tensor:
        """Returns a tensor from which a copy to the device does not wait for it."""
        return words


class Streamed:
    """The pool where it is; the examples that are asked for are copied from there."""

    def __init__(self, pool: Pool, window: Window, device: torch.device) -> None:
        self.home = torch.device("cpu")
        self._images = pool.images
        self._window = window
        self._is_image = pool.is_image
        self._pinned = device.type == "cuda"
        self._gatherers = ThreadPoolExecutor(GATHERERS)

    def gather(self, indices: Indices, tops: Indices, lefts: Indices) -> Shaped[Tensor, "replica examples ..."]:
        """Returns what `Resident.gather` returns, in host memory (pinned for a GPU). Reads the pool in ascending order."""
        return self._gather(indices, tops, lefts, self._window)

    def whole(self, indices: Indices) -> UInt8[Tensor, "replica examples height row"]:
        """Returns what `Resident.whole` returns, in host memory (pinned for a GPU)."""
        corner = torch.zeros_like(indices)
        return self._gather(indices, corner, corner, Window(self._images.shape[1], self._images.shape[2], 1, 1))

    def _gather(self, indices: Tensor, tops: Tensor, lefts: Tensor, window: Window) -> Tensor:
        example = (window.height, window.width, self._images.shape[3]) if self._is_image else self._images.shape[1:]
        kind = torch.uint8 if self._images.dtype == np.uint8 else torch.float32
        gathered = torch.empty((indices.numel(), *example), dtype=kind, pin_memory=self._pinned)
        places = np.stack([words.flatten().numpy() for words in (indices, tops, lefts)], axis=1)
        order = np.argsort(places[:, 0], kind="stable")
        target = gathered.numpy()
        parts = np.array_split(order, GATHERERS) if target.nbytes > FEW_BYTES else [order]
        jobs = [self._gatherers.submit(self._copy, target, places, part, window) for part in parts]
        for job in jobs:
            job.result()
        rows = gathered.flatten(2) if self._is_image else gathered
        return rows.view(*indices.shape, *rows.shape[1:])

    def ready(self, words: Tensor) -> Tensor:
        """Returns a tensor from which a copy to the device does not wait for it."""
        return words.pin_memory() if self._pinned else words

    def _copy(
        self, target: npt.NDArray[np.generic], places: npt.NDArray[np.int64], positions: npt.NDArray[np.int64], window: Window
    ) -> None:
        images = self._images
        for position in positions.tolist():
            example, top, left = places[position].tolist()
            if not self._is_image:
                target[position] = images[example]
            elif not window.padding:
                target[position] = images[example, top : top + window.height, left : left + window.width]
            else:
                _copy_padded(target[position], images[example], top - window.padding, left - window.padding, window.fill)


T = TypeVar("T")


class Ahead(Generic[T]):
    """What will be needed next is made by a thread in the background, while the device trains."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._next: tuple[object, Future[T]] | None = None

    def take(self, key: object, make: Callable[[], T]) -> T:
        """Returns what was prepared under a key, waiting for it where need be; what was not, or under another key, is made now."""
        prepared, self._next = self._next, None
        if prepared is not None and prepared[0] == key:
            return prepared[1].result()
        if prepared is not None:
            prepared[1].cancel()
        return make()

    def prepare(self, key: object, make: Callable[[], T]) -> None:
        """Begins to make what will be asked for under a key."""
        self._next = (key, self._thread.submit(make))


def fits(pool: Pool, window: Window, device: torch.device) -> bool:
    """Returns whether a pool, padded, takes no more than its share of the memory that is free now; says so where it does not."""
    needed, free = pool.images.nbytes, float(free_memory_mib() * MIB)
    if window.padding:
        _, height, width, channels = pool.images.shape
        needed = len(pool.images) * (height + 2 * window.padding) * (width + 2 * window.padding) * channels
    if device.type == "cuda":
        free = float(torch.cuda.mem_get_info(device)[0])
    if needed <= RESIDENT_SHARE * free:
        return True
    say(
        f"the {needed / 2**30:.1f} GiB of examples stay on the disk and are fetched while {device} trains: "
        f"of its {free / 2**30:.1f} GiB of free memory they may take {RESIDENT_SHARE:.0%}"
    )
    return False


def _padded(images: npt.NDArray[np.generic], padding: int, fill: int) -> npt.NDArray[np.generic]:
    """Returns a writable copy with `padding` rows and columns of `fill` around each image."""
    if not padding:
        return np.array(images)
    count, height, width, channels = images.shape
    padded = np.full((count, height + 2 * padding, width + 2 * padding, channels), fill, dtype=images.dtype)
    padded[:, padding:-padding, padding:-padding] = images
    return padded


def _windows(pool: Tensor, window: Window) -> Tensor:
    """Returns a view [corner, height, width * channels] of what begins at any pixel of any image, in their order in memory: all crops.

    Indexing it copies whole rows of pixels, which is several times faster than gathering pixel by pixel; one index in the place of
    (example, top, left) makes NumPy faster (measured: 1.4 to 1.8 times). Corners whose window would reach into the next row or image
    are never asked for.
    """
    count, height, width, channels = pool.shape
    corners = count * height * width - (window.height - 1) * width - (window.width - 1)
    return pool.as_strided((corners, window.height, window.width * channels), (channels, width * channels, 1))


def _copy_padded(target: npt.NDArray[np.generic], image: npt.NDArray[np.generic], top: int, left: int, fill: int) -> None:
    """Copies the part of an image that a crop at (top, left), which may lie outside of it, shares with it; the rest becomes `fill`."""
    target[:] = fill
    rows, columns = (
        np.arange(max(0, -begin), min(inside, side - begin))  # empty where the crop misses the image
        for begin, inside, side in zip((top, left), target.shape[:2], image.shape[:2], strict=True)
    )
    if len(rows) and len(columns):
        here = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        there = np.s_[rows[0] + top : rows[-1] + 1 + top, columns[0] + left : columns[-1] + 1 + left]
        target[here] = image[there]


# Mean and standard deviation of training pixels, exact and independent of the device.

CHUNK_BYTES = 1 << 24
"""Pixels that are counted at once: a pool that is mapped from the disk is never wholly in memory."""


def pixel_statistics(
    pool: Pool, splits: Sequence[Split], normalization: Normalization
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns mean and standard deviation, float64 [replica, channels (or features) or 1], in units of `pool.pixel_max`.

    Each replica's are those of its own training set (without the held-out part). A feature that never varies there is only
    shifted. Raises TrainingError where fixed values have the wrong number of channels.
    """
    channels = pool.images.shape[-1]
    if normalization.kind == "none":
        return np.zeros((len(splits), 1)), np.ones((len(splits), 1))
    if normalization.kind == "fixed":
        mean, deviation = np.array(normalization.mean), np.array(normalization.standard_deviation)
        if len(mean) not in (1, channels) or len(mean) != len(deviation):
            raise TrainingError(
                f"normalization: needs 1 or {channels} means and as many standard deviations, not {len(mean)} and {len(deviation)}"
            )
        return np.tile(mean, (len(splits), 1)), np.tile(deviation, (len(splits), 1))
    per_channel = normalization.kind == ("channel" if pool.is_image else "feature")
    known: dict[bytes, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}
    found = []
    for split in splits:
        key = split.train.tobytes()
        if key not in known:
            known[key] = _moments(pool, split.train, channels if per_channel else 1)
        found.append(known[key])
    return np.stack([mean for mean, _ in found]), np.stack([deviation for _, deviation in found])


def _moments(pool: Pool, train: npt.NDArray[np.int64], channels: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if pool.images.dtype == np.uint8:
        counts = np.zeros((channels, 256), dtype=np.int64)
        chunk = max(1, CHUNK_BYTES // max(1, pool.images[0].size))
        for start in range(0, len(train), chunk):
            pixels = pool.images[train[start : start + chunk]].reshape(-1, channels)
            for channel in range(channels):
                counts[channel] += np.bincount(pixels[:, channel], minlength=256)
        values = np.arange(256) / pool.pixel_max
        total = counts.sum(axis=1)
        mean = (counts * values).sum(axis=1) / total
        deviation = np.sqrt((counts * np.square(values - mean[:, None])).sum(axis=1) / total)
    else:
        values = pool.images[train].astype(np.float64) / pool.pixel_max
        mean, deviation = np.array([values.mean()]), np.array([values.std()])
        if channels > 1:
            mean, deviation = values.mean(axis=0), values.std(axis=0)
            deviation = np.where(deviation > 0, deviation, 1.0)
    if (deviation <= 0).any():
        raise TrainingError("normalization: the training set's pixels do not vary; set normalization = { kind = 'none' }")
    return mean, deviation
