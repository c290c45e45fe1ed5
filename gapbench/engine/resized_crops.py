"""Random resized crops: a box of random area, shape and place, drawn for each image by itself, scaled to one size.

The boxes are those of torchvision's RandomResizedCrop (Szegedy et al. 2015, section 6): area uniform between a share of the image and
all of it, ratio of the sides log-uniform between 3/4 and 4/3, ten attempts, the place uniform. Boxes and pixels are whole numbers from
whole numbers, so that they are the same on every device. Pixels are bilinear between neighbours, with no filter for boxes larger than
the crop.
"""

from __future__ import annotations

import functools
import math

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from gapbench.core.hashing import MASK32, below, mix32

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
