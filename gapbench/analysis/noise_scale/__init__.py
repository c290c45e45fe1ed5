"""The gradient noise scale of McCandlish et al. 2018: from raw sums of squared micro-batch gradients to estimates with intervals."""

from __future__ import annotations

from gapbench.analysis.noise_scale.estimators import (
    Blocks,
    Scale,
    effective_dimension,
    scale_of_blocks,
    scale_of_series,
    squared_gradient,
    trace_of_covariance,
)

__all__ = ["Blocks", "Scale", "effective_dimension", "scale_of_blocks", "scale_of_series", "squared_gradient", "trace_of_covariance"]
