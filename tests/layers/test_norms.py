"""The norm that networks are built with, against its definition."""

import pytest
import torch
from torch import nn

from gapbench.layers.norms import norm1d, norm2d, norm_groups


@pytest.mark.parametrize(("channels", "groups"), [(16, 1), (32, 2), (64, 4), (512, 32), (7, 1), (24, 1)])
def test_group_norm_has_groups_of_16_channels_or_one(channels, groups):
    assert norm_groups(channels) == groups
    (layer,) = norm2d("group", channels)
    assert isinstance(layer, nn.GroupNorm)
    assert (layer.num_groups, layer.num_channels) == (groups, channels)


def test_group_norm_is_that_of_each_example_by_itself():
    (layer,) = norm2d("group", 32)
    images = torch.randn(3, 32, 4, 5)
    for example, normalized in zip(images, layer(images), strict=True):
        for group in range(2):
            values = example[16 * group : 16 * group + 16]
            expected = (values - values.mean()) / (values.var(correction=0) + 1e-5).sqrt()
            torch.testing.assert_close(normalized[16 * group : 16 * group + 16], expected, rtol=1e-5, atol=1e-5)


def test_there_is_one_layer_or_none():
    assert [type(layer) for layer in (*norm1d("batch", 4), *norm2d("batch", 4))] == [nn.BatchNorm1d, nn.BatchNorm2d]
    assert norm1d("none", 4) == norm2d("none", 4) == []
