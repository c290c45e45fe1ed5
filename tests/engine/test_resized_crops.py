"""Random resized crops against slow definitions, torchvision's boxes and torch's interpolation."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gapbench.core.hashing import MASK32, below, mix32, stream
from gapbench.engine.feed import STEPS, Feed, draw_boxes, fallback, resample
from gapbench.suite.runspec import Normalization
from gapbench.workloads.datasets.arrays import Pool, Split

CPU = torch.device("cpu")


def slow_box(word: int, height: int, width: int, smallest: float) -> tuple[int, int, int, int]:
    """torchvision's RandomResizedCrop.get_params, one image at a time, with draws of our own."""
    for attempt in range(10):
        draws = [mix32(word ^ ((0x9E3779B9 * (4 * attempt + which + 1)) & MASK32)) for which in range(4)]
        area = (smallest + (1.0 - smallest) * (draws[0] / 2.0**32)) * (height * width)
        low, high = math.log(3 / 4), math.log(4 / 3)
        root = math.exp(0.5 * (low + (below(draws[1], STEPS) + 0.5) / STEPS * (high - low)))
        w, h = round(math.sqrt(area) * root), round(math.sqrt(area) / root)
        if 0 < w <= width and 0 < h <= height:
            return below(draws[2], height - h + 1), below(draws[3], width - w + 1), h, w
    return fallback(height, width)


@pytest.mark.parametrize(("height", "width", "smallest"), [(32, 32, 0.08), (20, 31, 0.08), (40, 9, 0.9), (7, 7, 1.0), (3, 3, 0.01)])
def test_boxes_are_those_of_the_definition(height, width, smallest):
    words = stream(0, "crop").at(3, torch.arange(200))[None]
    boxes = draw_boxes(words, height=height, width=width, smallest=smallest)
    assert boxes[0].tolist() == [list(slow_box(word, height, width, smallest)) for word in words[0].tolist()]


@pytest.mark.parametrize(("height", "width"), [(256, 256), (60, 200), (200, 60)])
def test_boxes_are_distributed_as_torchvisions(height, width):
    from torchvision.transforms import RandomResizedCrop

    count = 4000
    ours = draw_boxes(stream(0, "crop").at(0, torch.arange(count))[None], height=height, width=width, smallest=0.08)[0].double().numpy()
    torch.manual_seed(0)
    image = torch.zeros(1, height, width)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)], dtype=np.float64)
    for values in (lambda box: box[:, 2] * box[:, 3], lambda box: box[:, 3] / box[:, 2], lambda box: box[:, 0], lambda box: box[:, 1]):
        one, other = np.sort(values(ours)), np.sort(values(theirs))
        places = np.concatenate([one, other])
        distance = np.abs(np.searchsorted(one, places, "right") - np.searchsorted(other, places, "right")).max() / count
        assert distance < 1.95 * math.sqrt(2 / count)  # Kolmogorov and Smirnov at 0.001


@pytest.mark.parametrize(("height", "width"), [(100, 100), (100, 200), (300, 100), (90, 120)])
def test_where_no_attempt_fits_the_box_is_torchvisions(height, width):
    from torchvision.transforms import RandomResizedCrop

    impossible = RandomResizedCrop.get_params(torch.zeros(1, height, width), [4.0, 5.0], [3 / 4, 4 / 3])
    assert fallback(height, width) == tuple(impossible)


def slow_pixel(image: np.ndarray, box: list[int], size: int, row: int, column: int) -> list[int]:
    top, left, height, width = box

    def between(output: int, length: int) -> tuple[int, int, Fraction]:
        place = min(max(Fraction(2 * output + 1, 2) * length / size - Fraction(1, 2), Fraction(0)), Fraction(length - 1))
        return math.floor(place), min(math.floor(place) + 1, length - 1), place - math.floor(place)

    (y0, y1, fy), (x0, x1, fx) = between(row, height), between(column, width)
    part = image[top : top + height, left : left + width].astype(int)
    value = [
        (1 - fy) * ((1 - fx) * int(a) + fx * int(b)) + fy * ((1 - fx) * int(c) + fx * int(d))
        for a, b, c, d in zip(part[y0, x0], part[y0, x1], part[y1, x0], part[y1, x1], strict=True)
    ]
    return [math.floor(one + Fraction(1, 2)) for one in value]


def test_pixels_are_exactly_those_of_the_definition():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (1, 6, 12, 11, 3), dtype=np.uint8)
    boxes = draw_boxes(stream(1, "crop").at(0, torch.arange(6))[None], height=12, width=11, smallest=0.02)
    found = resample(torch.from_numpy(images), boxes, 5)
    for number in range(6):
        for row in range(5):
            for column in range(5):
                expected = slow_pixel(images[0, number], boxes[0, number].tolist(), 5, row, column)
                assert found[0, number, row, column].tolist() == expected


@pytest.mark.parametrize("box", [[0, 0, 40, 40], [3, 5, 20, 31], [10, 0, 1, 1], [0, 7, 33, 8]])
def test_pixels_are_torchs_bilinear_interpolation_rounded(box):
    image = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    top, left, height, width = box
    part = image[top : top + height, left : left + width].permute(2, 0, 1)[None].double()
    theirs = F.interpolate(part, size=(24, 24), mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
    ours = resample(image[None, None], torch.tensor([[box]]), 24)[0, 0].double()
    assert (ours - theirs).abs().max() <= 0.5 + 1e-9


def test_a_box_of_the_size_asked_for_is_a_plain_crop():
    image = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (1, 1, 40, 40, 3), dtype=np.uint8))
    assert torch.equal(resample(image, torch.tensor([[[4, 9, 24, 24]]]), 24)[0, 0], image[0, 0, 4:28, 9:33])


def test_the_feed_scales_training_images_and_cuts_the_middle_for_evaluation(spec):
    images = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), dtype=np.uint8)
    pool = Pool(images, np.arange(30, dtype=np.int64) % 2, 2, 255.0, 20)
    split = Split(np.arange(20), np.arange(20, 30), np.array([], dtype=np.int64), np.arange(10))
    feed = Feed(pool, [split], [spec(normalization=Normalization(kind="none"), crop_size=8, crop_scale=0.08, flip=True)], CPU)
    assert feed.input_shape == (3, 8, 8)
    indices, epochs = feed.examples(0, 20)
    batch = feed.batch(0)
    for position, (index, epoch) in enumerate(zip(indices[0].tolist(), epochs[0].tolist(), strict=True)):
        box = slow_box(stream(0, "crop").at(epoch, index), 16, 16, 0.08)
        image = resample(torch.from_numpy(images[index])[None, None], torch.tensor([[box]]), 8)[0, 0]
        image = image.flip(1) if stream(0, "flip").at(epoch, index) & 1 else image
        torch.testing.assert_close(batch.images[0, position].permute(1, 2, 0), image / 255)
    middle = feed.evaluation_batch(torch.arange(20, 30)[None]).images[0].permute(0, 2, 3, 1)
    torch.testing.assert_close(middle, torch.from_numpy(images[20:, 4:12, 4:12]) / 255)
