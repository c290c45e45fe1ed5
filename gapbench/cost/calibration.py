"""What updates took on this machine: a small file in the cache that makes the next plan's seconds measured ones."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from gapbench.core.paths import cache_dir
from gapbench.suite.runspec import RunSpec

_SPEED_FIELDS = ("batch_size", "ghost_batch_size", "precision", "crop_padding", "flip", "running_statistics")
"""Besides data set, model and optimizer, what the time of an update depends on."""


class Measurement(BaseModel):
    """The time of one update of all replicas."""

    seconds_per_update: float = Field(gt=0.0)
    ratio_to_guess: float | None = Field(gt=0.0)
    """Measured by guessed seconds; None where nothing can be guessed."""
    family: str
    """What a guess can be corrected for: device, data set, model, precision."""
    batch_size: int = Field(gt=0)


class Measurements(BaseModel):
    """The file."""

    format: Literal[1] = 1
    entries: dict[str, Measurement] = Field(default_factory=dict)
    start_seconds: dict[str, float] = Field(default_factory=dict)
    """By device kind: from starting a worker to the first update of its first job."""


def calibration_file() -> Path:
    """Returns the file of this machine's measurements; it may not exist yet."""
    return cache_dir() / f"calibration-{platform.node() or 'machine'}.json"


def record(spec: RunSpec, *, replicas: int, device_kind: str, seconds_per_update: float) -> None:
    """Remembers how long an update of all replicas took; a second measurement is averaged with the first.

    Where the cache cannot be written to, nothing is remembered: predictions stay rough, results are not touched.
    """
    from gapbench.cost.estimate import guessed_seconds_per_update

    if not (math.isfinite(seconds_per_update) and seconds_per_update > 0.0):
        return
    known = _read()
    key = _key(spec, replicas, device_kind)
    before = known.entries.get(key)
    seconds = seconds_per_update if before is None else 0.5 * (before.seconds_per_update + seconds_per_update)
    guess = guessed_seconds_per_update(spec, replicas=replicas, device_kind=device_kind)
    measurement = Measurement(
        seconds_per_update=seconds,
        ratio_to_guess=None if guess is None else seconds / guess,
        family=_family(spec, device_kind),
        batch_size=spec.batch_size,
    )
    with contextlib.suppress(OSError):
        _write(known.model_copy(update={"entries": {**known.entries, key: measurement}}))


def lookup(spec: RunSpec, *, replicas: int, device_kind: str) -> float | None:
    """Returns the measured seconds of one update of all replicas, or None where this machine has not trained the same."""
    entry = _read().entries.get(_key(spec, replicas, device_kind))
    return None if entry is None else entry.seconds_per_update


def record_start(device_kind: str, seconds: float) -> None:
    """Remembers how long a worker took to start; a second measurement is averaged with the first."""
    if not (math.isfinite(seconds) and seconds > 0.0):
        return
    known = _read()
    before = known.start_seconds.get(device_kind, seconds)
    with contextlib.suppress(OSError):
        _write(known.model_copy(update={"start_seconds": {**known.start_seconds, device_kind: 0.5 * (before + seconds)}}))


def start_seconds(device_kind: str) -> float:
    """Returns how long a worker takes to start on this machine; 0 where none was ever timed."""
    return _read().start_seconds.get(device_kind, 0.0)


def correction(spec: RunSpec, *, device_kind: str) -> float:
    """Returns by what a guess was wrong for the same model at the nearest batch size that was measured; 1 where none was."""
    family = _family(spec, device_kind)
    ratios = {
        abs(math.log(entry.batch_size / spec.batch_size)): entry.ratio_to_guess
        for entry in _read().entries.values()
        if entry.family == family and entry.ratio_to_guess is not None
    }
    return ratios[min(ratios)] if ratios else 1.0


def _family(spec: RunSpec, device_kind: str) -> str:
    model = json.dumps(spec.model.options, sort_keys=True)
    return f"{device_kind} {spec.dataset.name} {spec.model.name} {model} {spec.precision}"


def _key(spec: RunSpec, replicas: int, device_kind: str) -> str:
    fields = spec.model_dump(mode="json", include=set(_SPEED_FIELDS))
    return f"{_family(spec, device_kind)} {spec.optimizer.name} {json.dumps(fields, sort_keys=True)} x{replicas}"


_cached: tuple[tuple[Path, int, int], Measurements] | None = None
"""The file as it was last read, by path, time of change and size: a plan asks once for each run."""


def _read() -> Measurements:
    """Returns what was measured; a file that is missing, damaged or of another format is as good as none: it is made again."""
    global _cached
    path = calibration_file()
    try:
        status = path.stat()
        state = (path, status.st_mtime_ns, status.st_size)
        if _cached is None or _cached[0] != state:
            _cached = (state, Measurements.model_validate_json(path.read_bytes()))
    except (OSError, ValidationError):
        return Measurements()
    return _cached[1]


def _write(measurements: Measurements) -> None:
    path = calibration_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(measurements.model_dump_json(indent=1))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
