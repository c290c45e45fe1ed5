"""The feed: the data set lives on the device as bytes, and one gather makes the batches of an update.

One that is too large stays on the disk, and the next batches are gathered on the host while the device trains (`storage.py`).

Order, crops and flips are a counter hash of (seed, epoch, example): the same on every device, at every batch size, in
every stack and after a resume. Each image is cropped and flipped by itself; one crop a batch would make augmentation
poorer as the batch grows and so fake the effect that is measured.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from gapbench.core.errors import TrainingError
from gapbench.core.hashing import MASK32, Stream, below, mix32, sort_keys, stream
from gapbench.engine.pieces import WHOLE, Piece, Shape, cut
from gapbench.engine.storage import Ahead, Resident, Streamed, fits, pixel_statistics, window_of
from gapbench.sizing.decisions import block_size
from gapbench.suite.runspec import RunSpec
from gapbench.workloads.datasets.arrays import Pool, Split

# Random resized crops: a box of random area, shape and place, drawn for each image by itself, scaled to one size.
#
# The boxes are those of torchvision's RandomResizedCrop (Szegedy et al. 2015, section 6): area uniform between a share of the image and
# all of it, ratio of the sides log-uniform between 3/4 and 4/3, ten attempts, the place uniform. Boxes and pixels are whole numbers from
# whole numbers, so that they are the same on every device. Pixels are bilinear between neighbours, with no filter for boxes larger than
# the crop.

RATIOS = (3.0 / 4.0, 4.0 / 3.0)
"""Width over height, smallest and largest."""
ATTEMPTS = 10
STEPS = 1 << 16
"""Ratios that can be drawn, evenly spaced in their logarithm."""


def draw_boxes(words: Int[Tensor, "replica examples"], *, height: int, width: int, smallest: float) -> Int[Tensor, "replica examples 4"]:
    """Returns top, left, height and width of a box in each image.

    Args:
        words: 32-bit, one an image; everything is drawn from it.
        height: of the images, in pixels.
        width: likewise.
        smallest: share of the image's area that a box has at least.
    """
    roots = _roots_of_ratios(words.device)
    boxes = torch.tensor(fallback(height, width), device=words.device).repeat(*words.shape, 1)
    open_still = torch.ones_like(words, dtype=torch.bool)
    for attempt in range(ATTEMPTS):
        area_word, ratio_word, top_word, left_word = (mix32(words ^ _constant(4 * attempt + which)) for which in range(4))
        share = smallest + (1.0 - smallest) * (area_word.double() / 2.0**32)
        side, root = torch.sqrt(share * (height * width)), roots[below(ratio_word, STEPS)]
        box_width, box_height = torch.round(side * root).long(), torch.round(side / root).long()
        fits = open_still & (box_width > 0) & (box_width <= width) & (box_height > 0) & (box_height <= height)
        top, left = below(top_word, height - box_height + 1), below(left_word, width - box_width + 1)
        boxes = torch.where(fits[..., None], torch.stack([top, left, box_height, box_width], dim=2), boxes)
        open_still = open_still & ~fits
    return boxes


def fallback(height: int, width: int) -> tuple[int, int, int, int]:
    """Returns the box of an image that no attempt fits: the middle, all of it where its ratio is allowed."""
    box_height, box_width = height, width
    if width / height < RATIOS[0]:
        box_height = round(width / RATIOS[0])
    elif width / height > RATIOS[1]:
        box_width = round(height * RATIOS[1])
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def resample(
    images: UInt8[Tensor, "replica examples height width channels"], boxes: Int[Tensor, "replica examples 4"], size: int
) -> UInt8[Tensor, "replica examples size size channels"]:
    """Returns the box of each image scaled to a square: bilinear, centers of pixels at halves, rounded to the nearest byte, ties up."""
    top, left, height, width = boxes.flatten(0, 1).T
    whole = 2 * size  # weights are multiples of 1 / whole
    rows = _between(images.flatten(0, 1), *_neighbours(top, height, size), whole)  # [image, size, width, channels]
    columns = _between(rows.transpose(1, 2), *_neighbours(left, width, size), whole)  # [image, size (across), size (down), channels]
    pixels = columns.add_(whole * whole // 2).floor_divide_(whole * whole).to(torch.uint8)
    return pixels.transpose(1, 2).contiguous().view(*boxes.shape[:2], size, size, -1)


def _between(lines: Tensor, first: Tensor, second: Tensor, weight: Tensor, whole: int) -> Int[Tensor, "image size across channels"]:
    """Returns lines between lines, times `whole`, int32: copying whole lines is several times faster than pixel by pixel.

    Args:
        lines: [image, line, across, channels].
        first: [image, size]: the line before each output.
        second: [image, size]: the line after it.
        weight: [image, size]: of the second, 0 .. whole - 1.
        whole: sum of both weights.
    """
    lines = lines.contiguous()
    number = torch.arange(len(lines), device=lines.device)[:, None]
    weight = weight[..., None, None]
    between = lines[number, first].int().mul_(whole - weight)
    return between.add_(lines[number, second].int().mul_(weight))


def _neighbours(start: Tensor, length: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns, for each of `size` outputs, the two source positions that it lies between, and the weight of the second times 2 * size.

    Output i lies at (i + 1/2) * length / size - 1/2, in units of 1 / (2 * size) a whole number; beyond the outer centers it is their value.
    """
    outputs = torch.arange(size, device=start.device)
    place = ((2 * outputs + 1)[None] * length[:, None] - size).clamp_min(0)
    place = torch.minimum(place, (2 * size) * (length[:, None] - 1))
    first = place // (2 * size)
    second = torch.minimum(first + 1, length[:, None] - 1)
    return start[:, None] + first, start[:, None] + second, (place % (2 * size)).int()


def _constant(number: int) -> int:
    """Returns a word that tells the draws of one image apart."""
    return (0x9E3779B9 * (number + 1)) & MASK32


@functools.lru_cache(maxsize=4)
def _roots_of_ratios(device: torch.device) -> Tensor:
    """Returns the square roots of the ratios that can be drawn, float64: computed on the host, so that they are the same everywhere."""
    low, high = (math.log(ratio) for ratio in RATIOS)
    roots = [math.exp(0.5 * (low + (step + 0.5) / STEPS * (high - low))) for step in range(STEPS)]
    return torch.tensor(roots, dtype=torch.float64, device=device)


ORDER_EXAMPLES = 1 << 17
"""Examples whose order is computed at once."""
CACHED_NUMBERS = 1 << 17
"""Numbers that each thread of a CPU normalizes at once: they stay in its core's cache from one operation to the next (measured: 1.4 times
as fast)."""
LARGE_BLOCK = 1 << 20
"""Numbers of a block beyond which a CPU keeps it as bytes and normalizes each piece when it is used: as floats it would leave every
cache before that (measured: 1.6 times as fast). Small blocks are normalized at once, which saves calls."""
CALIBRATION_EPOCH = 1 << 31
"""Its draws are used to recalibrate norm statistics; no run trains for so many epochs."""
DRAWN = 1 << 31
"""Counters of augmentation from here on belong to examples that are drawn beside the order."""


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

    @property
    def size(self) -> int:
        """Examples of each replica."""
        return self.labels.shape[1]


@dataclass(frozen=True)
class MicroBatches:
    """The pieces of an update's batch, in order, none of which is made before it is asked for."""

    feed: Feed
    update: int
    pieces: tuple[Piece, ...]

    def __iter__(self) -> Iterator[Batch]:
        for piece in self.pieces:
            yield self.feed.piece(piece.first, piece.size, share=piece.share, group_size=piece.group_size)

    def __getitem__(self, part: slice) -> MicroBatches:
        return replace(self, pieces=self.pieces[part])

    def fresh(self, draw: int) -> Iterator[Batch]:
        """Yields pieces of the same sizes, of examples that are drawn anew, with replacement, by a hash of the update and of `draw`."""
        first = self.feed.batches.at(self.update).first
        for piece in self.pieces:
            positions = torch.arange(piece.first - first, piece.first - first + piece.size, device=self.feed.home)
            batch = self.feed.drawn_batch(*self.feed.draw("again", self.update, draw, positions))
            yield replace(batch, share=piece.share, group_size=piece.group_size)

    @property
    def shape(self) -> Shape:
        """What updates have in common that differ in their examples alone."""
        return tuple(piece[1:] for piece in self.pieces)


@dataclass(frozen=True)
class Drawn:
    """Examples as they were gathered: of crops the bytes. In a block of them that is on the device, `mirrored` and `boxes` are done."""

    images: Shaped[Tensor, "replica examples ..."]
    labels: Int[Tensor, "replica examples"]
    keys: Int[Tensor, "replica examples"]
    mirrored: Bool[Tensor, "replica examples"] | None
    boxes: Int[Tensor, "replica examples 4"] | None = None
    """Where images are whole: what is cut from them, and scaled to one size."""


class Feed:
    """Batches of all replicas by update number. Keeps no state that matters: any update can be asked for at any time.

    Args:
        pool: all examples.
        splits: which of them each replica trains on and is tested on; of equal sizes.
        specs: the runs, one a replica; batch size and augmentation are those of the first.
        device: where to train.
        resident: whether the whole pool lies on the device; default: where it takes no more than a share of the free memory.
    """

    def __init__(
        self, pool: Pool, splits: Sequence[Split], specs: Sequence[RunSpec], device: torch.device, *, resident: bool | None = None
    ) -> None:
        spec = specs[0]
        self.device = device
        self.batches = spec.batches
        self._ghost_batch_size = spec.ghost_batch_size
        self.flip = spec.flip and pool.is_image
        self.is_image = pool.is_image
        self._window = window_of(pool, spec)
        self._crop_scale = spec.crop_scale if pool.is_image else 0.0
        self._image_sides = pool.images.shape[1:3] if pool.is_image else (1, 1)
        self._channels = pool.images.shape[3] if pool.is_image else 0
        resident = fits(pool, self._window, device) if resident is None else resident
        self._storage = (Resident if resident else Streamed)(pool, self._window, device)
        self._ahead: Ahead[Drawn] | None = None if resident else Ahead()
        self.home = self._storage.home
        """Where indices of examples lie and random draws are made: the device, or the host where that gathers the examples."""
        self._labels = torch.from_numpy(np.array(pool.labels)).to(self.home)
        self.members: Int[Tensor, "replica train"] = _stacked([split.train for split in splits], self.home)
        self.train_size = self.members.shape[1]
        if spec.tail != "stream" and spec.train_examples != self.train_size:  # the table of batches is by epoch
            raise TrainingError(f"the run is planned for {spec.train_examples} training examples, and the data have {self.train_size}")
        mean, deviation = pixel_statistics(pool, splits, spec.normalization)
        self._shift, self._scale = (
            self._along_rows(torch.tensor(values, dtype=torch.float32, device=device))
            for values in (mean * pool.pixel_max, 1.0 / (deviation * pool.pixel_max))
        )
        self._seeds = [item.order_seed for item in specs]
        self._order, self._crop, self._flip, self._dropout = (
            streams_of(self._seeds, purpose, self.home) for purpose in ("order", "crop", "flip", "dropout")
        )
        self._drawn = streams_of(self._seeds, "sampling", self.home) if spec.sampling == "replacement" else None
        self._augmentation_epochs = spec.augmentation_epochs
        self._orders: tuple[int, int, Tensor] | None = None
        self._block: tuple[int, int, Drawn] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example as the model takes it: [channels, height, width] or [features]."""
        if not self.is_image:
            return (self._window.width,)
        return self._channels, self._window.height, self._window.width

    def batch(self, update: int) -> Batch:
        """Returns the batch of an update, counted from 0."""
        batch = self.batches.at(update)
        return self.piece(batch.first, batch.size)

    def micro_batches(self, update: int, size: int) -> MicroBatches:
        """Returns the batch of an update in pieces of `size` examples (the last may have fewer)."""
        return MicroBatches(self, update, tuple(cut(self.batches.at(update), size, self._ghost_batch_size)))

    def piece(self, first: int, size: int, *, share: Fraction = WHOLE, group_size: int | None = None) -> Batch:
        """Returns `size` examples from position `first` on in the orders of all epochs, one after another."""
        if self._block is None or not (self._block[0] <= first and first + size <= self._block[1]):
            stop = self._stop(first, size)
            self._block = None  # its memory may serve the next block
            self._block = (first, stop, self._fetched(first, stop))
            following = self.batches.following(stop) if self._ahead is not None else None
            if following is not None:
                self._prepare(following.first, self._stop(following.first, min(size, following.size)))
        start, block = first - self._block[0], self._block[2]
        part = slice(start, start + size)
        images = block.images[:, part]
        if self._normalizes_late(block):
            images = self._normalized(images)
        return Batch(images, block.labels[:, part], block.keys[:, part], share, group_size)

    def examples(self, first: int, stop: int) -> tuple[Int[Tensor, "replica examples"], Int[Tensor, "1 examples"]]:
        """Returns the pool indices of the examples at positions `first` .. `stop` - 1, in order, and the epoch of each position.

        With replacement an epoch is only a count, and in its stead stands the position: an example that comes twice is augmented and
        dropped out twice.
        """
        if self._drawn is not None:
            positions = torch.arange(first, stop, device=self.home)[None]
            # The hash takes 32 bits of an index; the rest of a position counts on.
            chosen = below(self._drawn.at(positions >> 32, positions & MASK32), self.train_size)
            return self.members.gather(1, chosen), positions
        epoch, end = first // self.train_size, (stop - 1) // self.train_size + 1
        orders = self._epochs(epoch, end).flatten(1)
        start = first - epoch * self.train_size
        positions = torch.arange(first, stop, device=self.home)
        return orders[:, start : start + stop - first], (positions // self.train_size)[None]

    def evaluation_batch(self, indices: Int[Tensor, "replica examples"]) -> Batch:
        """Returns examples as they are: no crop but the central one, no flip."""
        return self._finished(self._central(indices))

    def evaluation_batches(self, chunks: Sequence[Tensor]) -> Iterator[Batch]:
        """Yields `evaluation_batch` of each chunk, int64 [replica, examples]; a host that gathers does so one chunk ahead."""
        if self._ahead is None:
            yield from map(self.evaluation_batch, chunks)
            return
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(self._central, chunks[0])
            for chunk in [*chunks[1:], None]:
                drawn = waiting.result()
                if chunk is not None:
                    waiting = thread.submit(self._central, chunk)
                yield self._finished(drawn)

    def calibration_batch(self, indices: Int[Tensor, "replica examples"]) -> Batch:
        """Returns examples augmented and dropped out as in training, always alike: for statistics of what training sees."""
        epochs = torch.full_like(indices, CALIBRATION_EPOCH)
        return self._augmented(indices, epochs)

    def drawn_batch(self, indices: Int[Tensor, "replica examples"], counters: Int[Tensor, "replica examples"]) -> Batch:
        """Returns examples augmented and dropped out as in training, each under a counter of its own in the place of the epoch."""
        return self._augmented(indices, counters)

    def draw(
        self, purpose: str, update: int, draw: int, positions: Int[Tensor, " examples"]
    ) -> tuple[Int[Tensor, "replica examples"], Int[Tensor, "replica examples"]]:
        """Returns pool indices of training examples, each drawn with replacement, and the counters for `drawn_batch` of their augmentation.

        Each position has a counter of its own, so that an example that is drawn twice is augmented twice.
        """

        def words(of: str) -> Tensor:
            found: Tensor = torch.stack([stream(seed, f"{purpose} {of} {draw}").at(update, positions) for seed in self._seeds])
            return found

        return self.members.gather(1, below(words("example"), self.train_size)), DRAWN + (words("augmentation") >> 1)

    def _augmented(self, indices: Tensor, epochs: Tensor) -> Batch:
        return self._finished(self._gathered(indices, epochs, epochs))

    def _stop(self, first: int, size: int) -> int:
        """Returns where the block of pieces of `size` examples that begins at `first` ends: with the stretch of batches of one size."""
        block = first + block_size(size, math.prod(self.input_shape))
        return min(self.batches.end, max(first + size, min(block, self.batches.stretch_end(first))))

    def _fetched(self, first: int, stop: int) -> Drawn:
        """Returns the examples at positions `first` .. `stop` - 1, augmented; of a large block on a CPU not yet normalized."""
        if self._ahead is None:
            drawn = self._positions(first, stop)
        else:
            drawn = self._ahead.take((first, stop), lambda: self._positions(first, stop))
        block = self._arrived(drawn)
        return block if self._normalizes_late(block) else replace(block, images=self._normalized(block.images))

    def _normalizes_late(self, block: Drawn) -> bool:
        return self.device.type == "cpu" and block.images.numel() > LARGE_BLOCK

    def _prepare(self, first: int, stop: int) -> None:
        assert self._ahead is not None
        self._ahead.prepare((first, stop), lambda: self._positions(first, stop))

    def _positions(self, first: int, stop: int) -> Drawn:
        """Gathers the examples at positions `first` .. `stop` - 1."""
        indices, epochs = self.examples(first, stop)
        return self._gathered(indices, epochs, self._augmentations(first, stop, epochs))

    def _augmentations(self, first: int, stop: int, epochs: Tensor) -> Int[Tensor, "1 examples"]:
        """Returns the counter of crops and flips: that of dropout, but where the same ones come again."""
        if self._augmentation_epochs is None:
            return epochs
        return (torch.arange(first, stop, device=self.home)[None] // self.train_size) % self._augmentation_epochs

    def _central(self, indices: Tensor) -> Drawn:
        """Gathers examples as they are, but for the middle of their images. Never waits for a device that trains."""
        indices = indices.to(self.home)
        top, left = (torch.full_like(indices, begin) for begin in self._window.middle)
        images = self._storage.gather(indices, top, left)
        ready = self._storage.ready
        return Drawn(images, ready(self._labels[indices]), ready(self._dropout.at(CALIBRATION_EPOCH, indices)), None)

    def _gathered(self, indices: Tensor, epochs: Tensor, augmentations: Tensor) -> Drawn:
        """Draws crops and flips, and gathers the crops; all of it at home."""
        indices, epochs, augmentations = indices.to(self.home), epochs.to(self.home), augmentations.to(self.home)
        ready = self._storage.ready
        mirrored = ready((self._flip.at(augmentations, indices) & 1).bool()) if self.flip else None
        labels, keys = ready(self._labels[indices]), ready(self._dropout.at(epochs, indices))
        if self._crop_scale:
            height, width = self._image_sides
            boxes = draw_boxes(self._crop.at(augmentations, indices), height=height, width=width, smallest=self._crop_scale)
            return Drawn(self._storage.whole(indices), labels, keys, mirrored, ready(boxes))
        window = self._window
        vertical = horizontal = torch.zeros_like(indices)
        if window.tops > 1 or window.lefts > 1:
            words = self._crop.at(augmentations, indices)
            vertical = below(words, window.tops)
            horizontal = below(mix32(words ^ 0x5BD1E995), window.lefts)
        return Drawn(self._storage.gather(indices, vertical, horizontal), labels, keys, mirrored)

    def _finished(self, drawn: Drawn) -> Batch:
        """Returns examples on the device, scaled, mirrored and normalized."""
        arrived = self._arrived(drawn)
        return Batch(self._normalized(arrived.images), arrived.labels, arrived.keys)

    def _arrived(self, drawn: Drawn) -> Drawn:
        """Returns examples on the device, scaled and mirrored, not yet normalized."""
        images, labels, keys = (part.to(self.device, non_blocking=True) for part in (drawn.images, drawn.labels, drawn.keys))
        if drawn.boxes is not None:
            images = resample(self._pixels(images), drawn.boxes.to(self.device, non_blocking=True), self._window.height)
        if drawn.mirrored is not None:
            images = _mirrored(self._pixels(images), drawn.mirrored.to(self.device, non_blocking=True))
        return Drawn(images, labels, keys, None)

    def _along_rows(self, values: Tensor) -> Tensor:
        """[replica, channels or 1] -> [replica, 1, 1, width * channels], one for each byte of a row of pixels; features stay so."""
        if not self.is_image:
            return values[:, None]
        return values.expand(-1, self._channels).repeat(1, self._window.width)[:, None, None]

    def _pixels(self, images: Tensor) -> Tensor:
        """[replica, examples, height, width * channels] -> [replica, examples, height, width, channels]."""
        return images.view(*images.shape[:3], -1, self._channels) if images.ndim == 4 else images

    def _normalized(self, images: Tensor) -> Float[Tensor, "replica examples ..."]:
        if not self.is_image:
            return images.to(torch.float32).sub(self._shift).mul_(self._scale)
        # Along whole rows of pixels, several times faster than with the few channels as the innermost dimension.
        rows = images.flatten(3) if images.ndim == 5 else images
        numbers = torch.empty(rows.shape, dtype=torch.float32, device=rows.device)
        at_once = CACHED_NUMBERS * torch.get_num_threads() if rows.device.type == "cpu" else rows.numel()
        few = max(1, at_once // (len(rows) * rows[0, :1].numel()))
        for target, part in zip(torch.split(numbers, few, dim=1), torch.split(rows, few, dim=1), strict=True):
            target.copy_(part).sub_(self._shift).mul_(self._scale)
        return self._pixels(numbers).permute(0, 1, 4, 2, 3)  # a view: channels-last in memory

    def _epochs(self, first: int, stop: int) -> Int[Tensor, "replica epochs train"]:
        """Returns the order of epochs `first` .. `stop` - 1; keeps a few epochs' worth."""
        known = self._orders  # once: the background, too, asks for orders
        if known is None or first < known[0] or stop > known[1]:
            end = max(stop, first + ORDER_EXAMPLES // self.train_size)
            epochs = torch.arange(first, end, device=self.home)[None, :, None]
            members = self.members[:, None, :]
            order = _stream_unsqueezed(self._order)
            keys = sort_keys(order.at(epochs, members), members)
            known = self._orders = (first, end, keys.sort(dim=2).values & MASK32)
        return known[2][:, first - known[0] : stop - known[0]]


def _mirrored(pixels: Tensor, mirrored: Bool[Tensor, "replica examples"]) -> Tensor:
    """Returns images [replica, examples, height, width, channels], some of them mirrored; on a CPU in place."""
    if pixels.device.type != "cpu":  # which ones is known only to the device
        return torch.where(mirrored[..., None, None, None], pixels.flip(3), pixels)
    flat, chosen = pixels.flatten(0, 1), mirrored.flatten().nonzero()[:, 0]
    flat.numpy()[chosen.numpy()] = flat.index_select(0, chosen).flip(2).numpy()  # ten times as fast as index_copy_
    return pixels


def streams_of(seeds: Sequence[int], purpose: str, device: torch.device) -> Stream:
    """Returns the streams of several seeds as one, whose words broadcast over [replica, examples]."""
    streams = [stream(seed, purpose) for seed in seeds]
    low = torch.tensor([[item.key_low] for item in streams], device=device)
    high = torch.tensor([[item.key_high] for item in streams], device=device)
    return Stream(low, high)  # type: ignore[arg-type]  # words may be tensors, see core.hashing


def _stream_unsqueezed(streams: Stream) -> Stream:
    return Stream(streams.key_low[..., None], streams.key_high[..., None])  # type: ignore[index]


def _stacked(indices: Sequence[np.ndarray], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(indices)).to(device)
