"""A loss whose gradient, curvature and maxima are known: quadratics, one a replica, in the place of the engine's objective."""

from __future__ import annotations

import torch

from gapbench.probes import Columns, ObjectiveBatch, TrainState


class Quadratic:
    """f(w) = 1 + b . (w - w_0) + (w - w_0) H (w - w_0) / 2 for each replica. Counts what it is asked."""

    def __init__(self, center, slope, curvature):
        self.center, self.slope, self.curvature = center.double(), slope.double(), curvature.double()
        self.calls = 0

    def fixed(self, examples, *, norm="train"):
        return ObjectiveBatch(torch.zeros(len(self.center), examples, dtype=torch.int64), None, norm, 1)

    def batch(self):
        return self.fixed(1)

    def fresh(self, examples, draw, *, norm="train", purpose="objective"):
        return self.fixed(examples, norm=norm)

    def loss(self, batch, weights=None):
        self.calls += 1
        away = self._away(weights)
        return 1.0 + (self.slope * away).sum(1) + 0.5 * (away * self._times(away)).sum(1)

    def gradient(self, batch, weights=None):
        return (self.slope + self._times(self._away(weights))).float()

    def hessian_product(self, batch, vector, weights=None):
        return self._times(vector.double()).float()

    def _away(self, weights):
        return (self.center if weights is None else weights.double()) - self.center

    def _times(self, rows):
        return torch.einsum("rij,rj->ri", self.curvature, rows)


def state_of(weights, slope, curvature, layers, learning_rate=0.1, momentum=0.9):
    """Returns a training state of these weights whose objective is that quadratic."""
    replicas = len(weights)
    unknown = torch.full((replicas,), torch.nan)
    return TrainState(
        update=1,
        batch_size=1,
        weights=weights,
        initial_weights=weights,
        gradients=torch.full_like(weights, torch.nan),
        gradient_norm=unknown,
        batch_loss=unknown,
        batch_correct=unknown,
        clipped_updates=unknown,
        learning_rate=torch.full((replicas,), learning_rate),
        layers=layers,
        momentum=torch.full((replicas,), momentum),
        provided=Quadratic(weights, slope, curvature),
    )


LAYERS = (Columns("a", 0, 60, (6, 10)), Columns("b", 64, 72, (8,)), Columns("c", 80, 120, (5, 4, 1, 2)))
"""108 parameters in rows of 128 columns, the rest of which is padding."""
REAL = torch.cat([torch.arange(layer.start, layer.stop) for layer in LAYERS])


def random_state(replicas=2, curved=1.0, slope=1.0, seed=0, **changes):
    """Returns a state over LAYERS with random weights, slopes and curvatures that are zero in the padding."""
    generator = torch.Generator().manual_seed(seed)
    weights, tilt = torch.zeros(2, replicas, 128).unbind()
    curvature = torch.zeros(replicas, 128, 128)
    weights[:, REAL] = torch.randn(replicas, len(REAL), generator=generator)
    tilt[:, REAL] = slope * torch.randn(replicas, len(REAL), generator=generator)
    root = torch.randn(replicas, len(REAL), len(REAL), generator=generator) / len(REAL) ** 0.5
    curvature[:, REAL[:, None], REAL] = curved * root @ root.transpose(1, 2)
    return state_of(weights, tilt, curvature, LAYERS, **changes)
