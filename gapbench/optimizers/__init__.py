"""Optimizers, one file each, on flat buffers; schedules as tables over updates."""

from __future__ import annotations

from gapbench.optimizers.base import DeviceHyperparameters, FlatBuffers, Hyperparameters, Optimizer
from gapbench.optimizers.schedule import Schedule, schedule

__all__ = ["DeviceHyperparameters", "FlatBuffers", "Hyperparameters", "Optimizer", "Schedule", "schedule"]
