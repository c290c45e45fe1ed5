"""What is measured while a run trains: one file a probe, each a pure function of the training state.

A probe names its stage: `micro-batch` (after a backward pass, gradients not yet clipped), `update` (weights have moved),
`evaluation`, `checkpoint` (weights are being kept). It returns metrics by name: tensors [replica], [replica, layer] in the order of
`state.layers` (named `metric/layer`), or [replica, bucket] (`metric/bucket`), on the training device and without waiting for it.
One that needs the loss at other examples or weights declares that and gets `state.objective`.
"""

from __future__ import annotations

from gapbench.layers.rows import Columns
from gapbench.probes.state import NormMode, Objective, ObjectiveBatch, TrainState

__all__ = ["Columns", "NormMode", "Objective", "ObjectiveBatch", "TrainState"]
