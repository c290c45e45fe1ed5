from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gapbench.workloads.datasets.mnist import decode_idx, parse_idx

arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6))


def packed(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@given(arrays)
def test_an_array_written_as_idx_is_read_back(array: np.ndarray) -> None:
    read = parse_idx(packed(array))
    assert read.shape == array.shape
    assert np.array_equal(read, array)


@given(arrays, st.integers(1, 8), st.booleans())
def test_a_file_that_is_too_short_or_too_long_is_refused(array: np.ndarray, count: int, longer: bool) -> None:
    content = packed(array)
    with pytest.raises((ValueError, struct.error)):
        parse_idx(content + bytes(count) if longer else content[:-count])


def test_other_element_types_are_refused() -> None:
    with pytest.raises(ValueError, match="no idx file of unsigned bytes"):
        parse_idx(bytes([0, 0, 0x0D, 1, 0, 0, 0, 1, 0, 0, 0, 0]))


def test_training_examples_come_first_and_images_get_one_channel() -> None:
    images = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2)
    labels = np.array([3, 1, 4, 1, 5], np.uint8)
    pool = decode_idx(packed(part) for part in (images[:3], labels[:3], images[3:], labels[3:]))
    assert pool.images.shape == (5, 2, 2, 1)
    assert np.array_equal(pool.images[..., 0], images)
    assert pool.labels.tolist() == [3, 1, 4, 1, 5]
    assert (pool.official_train, pool.classes, pool.pixel_max) == (3, 10, 255.0)
