from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from gapbench.workloads.datasets.cifar import decode_cifar, parse_batch


def test_pixels_are_rows_of_red_green_blue_after_one_another() -> None:
    planes = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    images, labels = parse_batch(pickle.dumps({"data": planes, "labels": [7, 2]}, protocol=3), "labels")
    assert labels.tolist() == [7, 2]
    for example, row, column, channel in [(0, 0, 0, 0), (0, 5, 9, 1), (1, 31, 31, 2), (1, 0, 17, 0)]:
        assert images[example, row, column, channel] == planes[example, channel * 1024 + row * 32 + column]


def test_fine_labels_of_cifar100_are_taken() -> None:
    planes = np.zeros((3, 3072), np.uint8)
    batch = pickle.dumps({"data": planes, "fine_labels": [99, 0, 4], "coarse_labels": [1, 2, 3]}, protocol=3)
    pool = decode_cifar([batch, batch], label_key="fine_labels", classes=100)
    assert pool.labels.tolist() == [99, 0, 4, 99, 0, 4]
    assert (pool.official_train, pool.classes, pool.images.shape) == (3, 100, (6, 32, 32, 3))


class Evil:
    def __reduce__(self) -> Any:
        return eval, ("1 + 1",)


def test_a_file_that_asks_for_code_is_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.eval"):
        parse_batch(pickle.dumps({"data": Evil(), "labels": []}, protocol=3), "labels")


def test_pixels_that_do_not_match_the_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="3 labels"):
        parse_batch(pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2, 3]}, protocol=3), "labels")
