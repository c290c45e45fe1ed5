"""The feed: the data set lives on the device as bytes, and one gather makes the batches of an update.

Order, crops and flips are a counter hash of (seed, epoch, example): the same on every device, at every batch size, in
every stack and after a resume. Each image is cropped and flipped by itself; one crop a batch would make augmentation
poorer as the batch grows and so fake the effect that is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gapbench.core.errors import TrainingError
from gapbench.core.hashing import MASK32, Stream, below, mix32, sort_keys, stream
from gapbench.engine.normalization import pixel_statistics
from gapbench.engine.pieces import WHOLE, cut
from gapbench.suite.runspec import RunSpec
from gapbench.workloads.datasets.arrays import Pool, Split

BLOCK_EXAMPLES = 2048
"""Examples of one replica that a gather fetches: several updates at once where batches are small, to save calls."""
ORDER_EXAMPLES = 1 << 17
"""Examples whose order is computed at once."""
CALIBRATION_EPOCH = 1 << 31
"""Its draws are used to recalibrate norm statistics; no run trains for so many epochs."""


@dataclass(frozen=True)
class Batch:
    """The examples of one update, or of a piece of it."""

    images: Float[Tensor, "replica batch ..."]
    labels: Int[Tensor, "replica batch"]
    keys: Int[Tensor, "replica batch"]
    """One 32-bit word an example for dropout masks."""
    share: Fraction = WHOLE
    """Of the update's loss and gradient."""
    group_size: int | None = None
    """Examples of its ghost groups, the last of which may be smaller, where the batch is ragged; None: as the norm layers have it."""


class Feed:
    """Batches of all replicas by update number. Keeps no state that matters: any update can be asked for at any time.

    Args:
        pool: all examples.
        splits: which of them each replica trains on and is tested on; of equal sizes.
        specs: the runs, one a replica; batch size and augmentation are those of the first.
        device: where to train.
    """

    def __init__(self, pool: Pool, splits: Sequence[Split], specs: Sequence[RunSpec], device: torch.device) -> None:
        spec = specs[0]
        self.device = device
        self.batches = spec.batches
        self._ghost_batch_size = spec.ghost_batch_size
        self.padding = spec.crop_padding if pool.is_image else 0
        self.flip = spec.flip and pool.is_image
        self.is_image = pool.is_image
        self._pool = torch.from_numpy(_padded(pool.images, self.padding, spec.crop_fill)).to(device)
        self._windows = _windows(self._pool, self.padding) if self.is_image else self._pool
        self._labels = torch.from_numpy(np.array(pool.labels)).to(device)
        self.members: Int[Tensor, "replica train"] = _stacked([split.train for split in splits], device)
        self.train_size = self.members.shape[1]
        if spec.tail != "stream" and spec.train_examples != self.train_size:  # the table of batches is by epoch
            raise TrainingError(f"the run is planned for {spec.train_examples} training examples, and the data have {self.train_size}")
        mean, deviation = pixel_statistics(pool, splits, spec.normalization)
        shape = (len(specs), 1, -1) + (1, 1) * self.is_image
        self._shift = torch.tensor(mean * pool.pixel_max, dtype=torch.float32, device=device).view(shape)
        self._scale = torch.tensor(1.0 / (deviation * pool.pixel_max), dtype=torch.float32, device=device).view(shape)
        self._order, self._crop, self._flip, self._dropout = (
            _stream([item.order_seed for item in specs], purpose, device) for purpose in ("order", "crop", "flip", "dropout")
        )
        self._orders: tuple[int, int, Tensor] | None = None
        self._block: tuple[int, int, Batch] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example as the model takes it: [channels, height, width] or [features]."""
        if not self.is_image:
            return tuple(self._pool.shape[1:])
        _, height, width, channels = self._pool.shape
        return channels, height - 2 * self.padding, width - 2 * self.padding

    def batch(self, update: int) -> Batch:
        """Returns the batch of an update, counted from 0."""
        batch = self.batches.at(update)
        return self.piece(batch.first, batch.size)

    def micro_batches(self, update: int, size: int) -> Iterator[Batch]:
        """Yields the batch of an update in pieces of `size` examples (the last may have fewer), in order, none before it is asked for."""
        for piece in cut(self.batches.at(update), size, self._ghost_batch_size):
            yield self.piece(piece.first, piece.size, share=piece.share, group_size=piece.group_size)

    def piece(self, first: int, size: int, *, share: Fraction = WHOLE, group_size: int | None = None) -> Batch:
        """Returns `size` examples from position `first` on in the orders of all epochs, one after another."""
        if self._block is None or not (self._block[0] <= first and first + size <= self._block[1]):
            stop = min(self.batches.end, first + max(1, BLOCK_EXAMPLES // size) * size)
            self._block = None  # its memory may serve the next block
            self._block = (first, stop, self._augmented(*self.examples(first, stop)))
        start, block = first - self._block[0], self._block[2]
        part = slice(start, start + size)
        return Batch(block.images[:, part], block.labels[:, part], block.keys[:, part], share, group_size)

    def examples(self, first: int, stop: int) -> tuple[Int[Tensor, "replica examples"], Int[Tensor, "1 examples"]]:
        """Returns the pool indices of the examples at positions `first` .. `stop` - 1, in order, and the epoch of each position."""
        epoch, end = first // self.train_size, (stop - 1) // self.train_size + 1
        orders = self._epochs(epoch, end).flatten(1)
        start = first - epoch * self.train_size
        positions = torch.arange(first, stop, device=self.device)
        return orders[:, start : start + stop - first], (positions // self.train_size)[None]

    def evaluation_batch(self, indices: Int[Tensor, "replica examples"]) -> Batch:
        """Returns examples as they are: no crop but the central one, no flip."""
        if not self.is_image:
            images = self._pool[indices]
        else:
            middle = torch.full_like(indices, self.padding)
            images = self._windows[indices, middle, middle]
        return Batch(self._normalized(images), self._labels[indices], self._dropout.at(CALIBRATION_EPOCH, indices))

    def calibration_batch(self, indices: Int[Tensor, "replica examples"]) -> Batch:
        """Returns examples augmented and dropped out as in training, always alike: for statistics of what training sees."""
        return self._augmented(indices, torch.full_like(indices, CALIBRATION_EPOCH))

    def _augmented(self, indices: Tensor, epochs: Tensor) -> Batch:
        labels, keys = self._labels[indices], self._dropout.at(epochs, indices)
        if not self.is_image:
            return Batch(self._normalized(self._pool[indices]), labels, keys)
        vertical = horizontal = torch.zeros_like(indices)
        if self.padding:
            words = self._crop.at(epochs, indices)
            vertical = below(words, 2 * self.padding + 1)
            horizontal = below(mix32(words ^ 0x5BD1E995), 2 * self.padding + 1)
        images = self._windows[indices, vertical, horizontal]
        if self.flip:
            mirrored = (self._flip.at(epochs, indices) & 1).bool()[..., None, None, None]
            images = torch.where(mirrored, self._pixels(images).flip(3), self._pixels(images))
        return Batch(self._normalized(images), labels, keys)

    def _pixels(self, images: Tensor) -> Tensor:
        """[replica, examples, height, width * channels] -> [replica, examples, height, width, channels]."""
        return images.view(*images.shape[:3], -1, self._pool.shape[3]) if images.ndim == 4 else images

    def _normalized(self, images: Tensor) -> Float[Tensor, "replica examples ..."]:
        if self.is_image:
            images = self._pixels(images).permute(0, 1, 4, 2, 3)  # a view: channels-last in memory
        return images.to(torch.float32).sub_(self._shift).mul_(self._scale)

    def _epochs(self, first: int, stop: int) -> Int[Tensor, "replica epochs train"]:
        """Returns the order of epochs `first` .. `stop` - 1; keeps a few epochs' worth."""
        if self._orders is None or first < self._orders[0] or stop > self._orders[1]:
            end = max(stop, first + ORDER_EXAMPLES // self.train_size)
            epochs = torch.arange(first, end, device=self.device)[None, :, None]
            members = self.members[:, None, :]
            order = _stream_unsqueezed(self._order)
            keys = sort_keys(order.at(epochs, members), members)
            self._orders = (first, end, keys.sort(dim=2).values & MASK32)
        return self._orders[2][:, first - self._orders[0] : stop - self._orders[0]]


def _padded(images: np.ndarray, padding: int, fill: int) -> np.ndarray:
    """Returns a writable copy with `padding` rows and columns of `fill` around each image."""
    if not padding:
        return np.array(images)
    count, height, width, channels = images.shape
    padded = np.full((count, height + 2 * padding, width + 2 * padding, channels), fill, dtype=images.dtype)
    padded[:, padding:-padding, padding:-padding] = images
    return padded


def _windows(pool: Tensor, padding: int) -> Tensor:
    """Returns a view [example, top, left, height, width * channels] of all crops of all images.

    Indexing it with three index tensors copies whole rows of pixels, which is several times faster than gathering pixel by pixel.
    """
    count, height, width, channels = pool.shape
    example, row, column, _ = pool.stride()
    crops = 2 * padding + 1
    shape = (count, crops, crops, height - 2 * padding, (width - 2 * padding) * channels)
    return pool.as_strided(shape, (example, row, column, row, 1))


def _stream(seeds: Sequence[int], purpose: str, device: torch.device) -> Stream:
    """Returns the streams of several seeds as one, whose words broadcast over [replica, examples]."""
    streams = [stream(seed, purpose) for seed in seeds]
    low = torch.tensor([[item.key_low] for item in streams], device=device)
    high = torch.tensor([[item.key_high] for item in streams], device=device)
    return Stream(low, high)  # type: ignore[arg-type]  # words may be tensors, see core.hashing


def _stream_unsqueezed(streams: Stream) -> Stream:
    return Stream(streams.key_low[..., None], streams.key_high[..., None])  # type: ignore[index]


def _stacked(indices: Sequence[np.ndarray], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(indices)).to(device)
