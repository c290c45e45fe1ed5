"""Norms of long rows, against float64."""

import pytest
import torch

from gapbench.layers.rows import BLOCK, row_norms, row_squares

LENGTHS = [1, BLOCK - 1, BLOCK, BLOCK + 1, 1_462_794, 15_000_000]
"""The last two: F1's and VGG-16's parameters."""


def gradient_like(length: int, rows: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(length)
    draws = torch.randn(2, rows, length, generator=generator)
    return draws[0] * torch.exp(1.5 * draws[1])  # of very unequal sizes, as gradients are


@pytest.mark.parametrize("length", LENGTHS)
def test_norms_of_long_rows_are_those_of_float64(length):
    rows = gradient_like(length)
    exact = rows.double().norm(dim=1)
    assert row_norms(rows).dtype is torch.float32
    torch.testing.assert_close(row_norms(rows).double(), exact, rtol=2e-7, atol=0.0)
    torch.testing.assert_close(row_squares(rows), exact**2, rtol=4e-7, atol=0.0)


def test_a_plain_sum_over_such_a_row_is_not_good_enough():
    rows = gradient_like(15_000_000)
    assert abs(rows.norm(dim=1).double() / rows.double().norm(dim=1) - 1) > 1e-5


def test_a_row_of_several_has_the_bits_of_the_row_alone():
    rows = gradient_like(3 * BLOCK + 17, rows=5)
    assert torch.equal(row_norms(rows), torch.cat([row_norms(row[None]) for row in rows]))
    part = rows[:, 5:2000]  # a view with gaps between its rows, as of one layer
    assert torch.equal(row_norms(part), row_norms(part.contiguous()))
