"""Hashed dropout: a function of keys, layer and unit, with the right frequency and scale."""

import pytest
import torch
from torch import nn

from gapbench.core.errors import TrainingError
from gapbench.core.hashing import stream
from gapbench.layers.keyed import Dropout, bind_keys


def keys(count: int, epoch: int = 0) -> torch.Tensor:
    return stream(0, "dropout").at(epoch, torch.arange(count))


def test_units_drop_with_the_given_probability_and_keep_their_mean():
    layer = Dropout(0.3)
    bind_keys(nn.Sequential(layer), keys(2000))
    outputs = layer(torch.ones(2000, 50))
    assert abs((outputs == 0).float().mean().item() - 0.3) < 0.005
    assert abs(outputs.mean().item() - 1.0) < 0.01
    assert outputs.max().item() == pytest.approx(1 / 0.7)


def test_a_mask_belongs_to_an_example_whatever_the_batch():
    layer = Dropout(0.5)
    bind_keys(nn.Sequential(layer), keys(64))
    whole = layer(torch.ones(64, 20))
    bind_keys(nn.Sequential(layer), keys(64)[10:13])
    assert torch.equal(layer(torch.ones(3, 20)), whole[10:13])


def test_masks_differ_between_layers_examples_and_epochs():
    first, second = Dropout(0.5), Dropout(0.5)
    bind_keys(nn.Sequential(first, second), keys(64))
    ones = torch.ones(64, 20)
    assert not torch.equal(first(ones), second(ones))
    assert not torch.equal(first(ones)[0], first(ones)[1])
    before = first(ones)
    bind_keys(nn.Sequential(first, second), keys(64, epoch=1))
    assert not torch.equal(first(ones), before)


def test_evaluation_drops_nothing_and_training_without_keys_is_an_error():
    layer = Dropout(0.5)
    with pytest.raises(TrainingError, match="no keys"):
        layer(torch.ones(2, 3))
    layer.eval()
    assert torch.equal(layer(torch.ones(2, 3)), torch.ones(2, 3))
