"""Noise in gradients, as a control: weights of the examples of an update, or a random direction in the gradient's place.

Multiplicative noise (Hoffer et al. 2017, section 4) weighs each example of a batch of M_L by z = 1 + sigma e. With
sigma^2 = M_L / M_S - 1 the covariance of its mean gradient, C / M_L, becomes C / M_S, that of a batch of M_S. The e are
centred over the batch, so that the noise is of the gradients' deviations from their mean; not centred, as in the paper, it also
scales the mean gradient itself at random. The argument needs gradients that do not depend on the other examples of the batch: with
batch norm, ghost batch size M_S.

All draws are a counter hash of (seed, update, position in the batch): an example that stands twice in a batch draws twice, and
centring needs no more than the update's number, so that micro-batches and stacks change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gapbench.core.hashing import Stream, stream
from gapbench.layers.hashed_normals import normals
from gapbench.probes import Layer
from gapbench.suite.runspec import RunSpec


class GradientNoise:
    """The noise of all replicas by update number. Keeps no state.

    Args:
        specs: the runs, one a replica; whether there is noise, and which, is that of the first.
        device: where to train.
    """

    def __init__(self, specs: Sequence[RunSpec], device: torch.device) -> None:
        rule = specs[0].gradient_noise
        self.multiplicative = rule is not None and rule.kind == "multiplicative"
        self.isotropic = rule is not None and rule.kind == "isotropic"
        self._deviation = 0.0 if rule is None or rule.variance is None else rule.variance**0.5
        self._centred = rule is None or rule.centred is not False
        streams = [stream(spec.order_seed, "noise") for spec in specs]
        low = torch.tensor([[item.key_low] for item in streams], device=device)
        high = torch.tensor([[item.key_high] for item in streams], device=device)
        self._stream = Stream(low, high)  # type: ignore[arg-type]  # words may be tensors, see core.hashing
        self._positions = torch.arange(specs[0].batch_size, device=device)[None]

    def weights(self, update: int) -> Float[Tensor, "replica batch"]:
        """Returns the weight of every example of an update, counted from 0; their mean is 1, exactly where centred."""
        noise = normals(self._stream.at(update, self._positions))
        if self._centred:
            noise = noise - noise.mean(dim=1, keepdim=True)
        return (1.0 + self._deviation * noise).float()

    def replace(self, gradients: Float[Tensor, "replica parameters"], layers: Sequence[Layer], update: int) -> None:
        """Puts a Gaussian direction of the same norm in the place of every replica's gradient."""
        norm = gradients.norm(dim=1, keepdim=True)
        for layer in layers:  # columns between layers are padding and stay zero
            columns = torch.arange(layer.start, layer.stop, device=gradients.device)[None]
            gradients[:, layer.start : layer.stop] = normals(self._stream.at(update, columns)).float()
        gradients.mul_(norm / gradients.norm(dim=1, keepdim=True))
