"""Where the weights are: distance from the start, norm, angle, and a sketch of the displacement."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from gapbench.core.hashing import stream
from gapbench.layers.rows import row_norms
from gapbench.probes.state import Columns, TrainState


def weight_distance(state: TrainState) -> dict[str, Tensor]:
    """Distance of the weights from their initial values, ||w_t - w_0||_2: over all trainable parameters, and of each layer.

    The quantity of Hoffer et al. 2017, section 3 and figure 2.
    """
    return {"weight_distance": row_norms(state.displacement), "weight_distance/layer": state.by_layer(state.displacement)}


def weight_norm(state: TrainState) -> dict[str, Tensor]:
    """||w_t||_2 over all trainable parameters: beside the weight distance it tells growth from turning."""
    return {"weight_norm": row_norms(state.weights)}


def weight_cosine(state: TrainState) -> dict[str, Tensor]:
    """Cosine of the angle between w_t and w_0, over all trainable parameters: under weight decay alone it falls as exp(-t / memory)."""
    return {"weight_cosine": torch.cosine_similarity(state.weights, state.initial_weights, dim=1)}


BUCKETS = 256
PURPOSE = "displacement sketch"
"""With the layer's name, key of the hash: the same for every run of a model, whatever its seed, batch size or device."""


def displacement_sketch(state: TrainState) -> dict[str, Tensor]:
    """Count sketch of w_t - w_0 over all trainable parameters: 256 signed sums, the same projection for all runs of a model.

    Charikar, Chen and Farach-Colton 2002; Thorup and Zhang 2012 (its second moment). Inner products of sketches, and squared distances
    between them, are unbiased for those of the displacements, with a standard error of at most sqrt(2 / 256) = 9 % of the product of the
    norms: drift and spread over data orders are estimated from them.
    """
    gather, signs = _projection(state.layers, str(state.weights.device))
    drawn = state.displacement.index_select(1, gather.flatten()).view(-1, *gather.shape)
    return {"displacement_sketch/bucket": (drawn * signs).sum(dim=2, dtype=torch.float64).float()}


@functools.lru_cache(maxsize=2)
def _projection(layers: tuple[Columns, ...], device: str) -> tuple[Tensor, Tensor]:
    """Returns, for each bucket, the columns that it adds up and their signs, both [bucket, column]; padding has sign 0.

    Gathering and adding along a dimension gives the same bits on every call; scattering does not on a GPU.
    """
    columns, words = [], []
    for layer in layers:
        size = torch.arange(layer.stop - layer.start)
        columns.append(size + layer.start)
        words.append(stream(0, f"{PURPOSE} {layer.name}").at(0, size))
    column, word = torch.cat(columns), torch.cat(words)
    bucket, order = (word % BUCKETS).sort(stable=True)
    counts = torch.bincount(bucket, minlength=BUCKETS)
    place = torch.arange(len(bucket)) - (counts.cumsum(0) - counts)[bucket]
    gather = torch.zeros(BUCKETS, int(counts.max()), dtype=torch.int64)
    signs = torch.zeros(gather.shape)
    gather[bucket, place] = column[order]
    signs[bucket, place] = 1.0 - 2.0 * (word[order] // BUCKETS % 2)
    return gather.to(device), signs.to(device)
