"""Muon: momentum whose matrices are made orthogonal (Jordan 2024, https://kellerjordan.github.io/posts/muon/), AdamW beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch.optim._muon import DEFAULT_A, DEFAULT_B, DEFAULT_C, DEFAULT_NS_STEPS, EPS, _zeropower_via_newtonschulz

from gapbench.core.errors import TrainingError
from gapbench.optimizers.adamw import AdamW
from gapbench.optimizers.base import FlatBuffers, Hyperparameters, Tile, plus


class Muon(AdamW):
    """With v <- momentum v + (1 - momentum) g: w <- (1 - learning_rate weight_decay) w - learning_rate scale orthogonal(v).

    A kernel [outputs, inputs, height, width] is a matrix of as many rows as outputs. The output layer (the last matrix of the model) and
    tensors of one dimension make AdamW's step at the same learning rate.

    Raises:
        TrainingError: no tensor is left that is a matrix.
    """

    state_names = ("momentum_buffer", "exp_avg", "exp_avg_sq")
    layerwise = True

    def __init__(self, buffers: FlatBuffers, options: Mapping[str, Any], *, shared: bool) -> None:
        super().__init__(buffers, options, shared=shared)
        matrices = [tensor.name for tensor in buffers.tensors if len(tensor.shape) > 1]
        self._matrices = frozenset(matrices if options["output_layer"] == "muon" else matrices[:-1])
        if not self._matrices:
            raise TrainingError(
                "muon moves matrices, and the model has none beside its output layer; "
                'set output_layer = "muon" in the optimizer where there is one, or take adamw'
            )

    def move(self, tile: Tile, hyperparameters: Hyperparameters) -> None:
        """See `Optimizer`."""
        if tile.tensor is None or tile.tensor.name not in self._matrices:
            super().move(tile, hyperparameters)
            return
        rate, momentum, average = hyperparameters.learning_rate, hyperparameters.momentum, tile.state["momentum_buffer"]
        average.lerp_(tile.gradients, 1.0 - momentum)
        direction = tile.gradients.lerp(average, momentum) if self.options["nesterov"] else average
        matrix = direction.view(tile.tensor.shape[0], -1)
        orthogonal = _zeropower_via_newtonschulz(matrix, (DEFAULT_A, DEFAULT_B, DEFAULT_C), DEFAULT_NS_STEPS, EPS)
        tile.weights.mul_(1.0 - rate * hyperparameters.weight_decay)
        step = orthogonal.reshape(-1).to(tile.weights.dtype)
        plus(tile.weights, step, -rate * self._scale(*matrix.shape), out=tile.weights)

    def _scale(self, rows: int, columns: int) -> float:
        """Returns what the learning rate is multiplied by; names are torch's."""
        if self.options["adjust"] == "match_rms_adamw":
            return 0.2 * math.sqrt(max(rows, columns))
        return math.sqrt(max(1.0, rows / columns))
