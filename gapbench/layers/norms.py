"""The norm that a network is built with: batch norm, group norm or none, as its option `norm` says.

Group norm (Wu and He 2018, arXiv:1803.08494) normalizes each example by itself, in groups of 16 channels, the best of the numbers
of channels a group in their table 3. So no example depends on the others of its batch, and what the ghost batch size changes is gone.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import nn

Norm: TypeAlias = Literal["batch", "group", "none"]

CHANNELS_PER_GROUP = 16


def norm_groups(channels: int) -> int:
    """Returns the number of groups of group norm: groups of 16 channels, or one of all channels where 16 does not divide them."""
    return channels // CHANNELS_PER_GROUP if channels % CHANNELS_PER_GROUP == 0 else 1


def norm1d(norm: Norm, features: int) -> list[nn.Module]:
    """Returns the norm of a dense layer's outputs [batch, features]; an empty list where there is none."""
    return _norm(norm, features, nn.BatchNorm1d)


def norm2d(norm: Norm, channels: int) -> list[nn.Module]:
    """Returns the norm of a convolution's outputs [batch, channels, height, width]; an empty list where there is none."""
    return _norm(norm, channels, nn.BatchNorm2d)


def _norm(norm: Norm, channels: int, batch_norm: type[nn.BatchNorm1d] | type[nn.BatchNorm2d]) -> list[nn.Module]:
    if norm == "batch":
        return [batch_norm(channels)]
    return [nn.GroupNorm(norm_groups(channels), channels)] if norm == "group" else []
