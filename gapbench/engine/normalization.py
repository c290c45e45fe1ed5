"""Mean and standard deviation of training pixels, exact and independent of the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gapbench.core.errors import TrainingError
from gapbench.suite.runspec import Normalization
from gapbench.workloads.datasets.arrays import Pool, Split

CHUNK_BYTES = 1 << 24
"""Pixels that are counted at once: a pool that is mapped from the disk is never wholly in memory."""


def pixel_statistics(
    pool: Pool, splits: Sequence[Split], normalization: Normalization
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns mean and standard deviation, float64 [replica, channels (or features) or 1], in units of `pool.pixel_max`.

    Each replica's are those of its own training set (without the held-out part). A feature that never varies there is only
    shifted. Raises TrainingError where fixed values have the wrong number of channels.
    """
    channels = pool.images.shape[-1]
    if normalization.kind == "none":
        return np.zeros((len(splits), 1)), np.ones((len(splits), 1))
    if normalization.kind == "fixed":
        mean, deviation = np.array(normalization.mean), np.array(normalization.standard_deviation)
        if len(mean) not in (1, channels) or len(mean) != len(deviation):
            raise TrainingError(
                f"normalization: needs 1 or {channels} means and as many standard deviations, not {len(mean)} and {len(deviation)}"
            )
        return np.tile(mean, (len(splits), 1)), np.tile(deviation, (len(splits), 1))
    per_channel = normalization.kind == ("channel" if pool.is_image else "feature")
    known: dict[bytes, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}
    found = []
    for split in splits:
        key = split.train.tobytes()
        if key not in known:
            known[key] = _moments(pool, split.train, channels if per_channel else 1)
        found.append(known[key])
    return np.stack([mean for mean, _ in found]), np.stack([deviation for _, deviation in found])


def _moments(pool: Pool, train: npt.NDArray[np.int64], channels: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if pool.images.dtype == np.uint8:
        counts = np.zeros((channels, 256), dtype=np.int64)
        chunk = max(1, CHUNK_BYTES // max(1, pool.images[0].size))
        for start in range(0, len(train), chunk):
            pixels = pool.images[train[start : start + chunk]].reshape(-1, channels)
            for channel in range(channels):
                counts[channel] += np.bincount(pixels[:, channel], minlength=256)
        values = np.arange(256) / pool.pixel_max
        total = counts.sum(axis=1)
        mean = (counts * values).sum(axis=1) / total
        deviation = np.sqrt((counts * np.square(values - mean[:, None])).sum(axis=1) / total)
    else:
        values = pool.images[train].astype(np.float64) / pool.pixel_max
        mean, deviation = np.array([values.mean()]), np.array([values.std()])
        if channels > 1:
            mean, deviation = values.mean(axis=0), values.std(axis=0)
            deviation = np.where(deviation > 0, deviation, 1.0)
    if (deviation <= 0).any():
        raise TrainingError("normalization: the training set's pixels do not vary; set normalization = { kind = 'none' }")
    return mean, deviation
