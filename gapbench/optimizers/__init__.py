"""Optimizers, one file each, on flat buffers; schedules as tables over updates."""

from __future__ import annotations

from gapbench.optimizers.base import FlatBuffers, Gradients, Hyperparameters, OfReplicas, Optimizer
from gapbench.optimizers.extrapolation import Extrapolated
from gapbench.optimizers.schedule import Schedule, extrapolation_steps, schedule

__all__ = [
    "Extrapolated", "FlatBuffers", "Gradients", "Hyperparameters", "OfReplicas", "Optimizer", "Schedule", "extrapolation_steps", "schedule",
]  # fmt: skip
