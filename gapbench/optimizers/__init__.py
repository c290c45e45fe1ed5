"""Optimizers, one file each, on flat buffers; schedules as tables over updates."""

from __future__ import annotations

from gapbench.optimizers.base import FlatBuffers, Gradients, Hyperparameters, OfReplicas, Optimizer
from gapbench.optimizers.schedule import Schedule, schedule

__all__ = ["FlatBuffers", "Gradients", "Hyperparameters", "OfReplicas", "Optimizer", "Schedule", "schedule"]
