"""What jobs took on this machine: a file in the cache, one a machine, that makes the next plan's seconds more than a guess.

Two things are kept for every program, number of replicas and way to share out the machine: the parts of a job, from a short
measurement (`gapbench plan --calibrate`), and what the last jobs took, noted after each of them. A machine with another processor,
GPU, torch or gapbench has another file; other threads or slots have other entries. Nothing is ever used for what it was not timed on.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, Field, ValidationError

from gapbench.core.machine import cache_dir
from gapbench.cost.parts import Parts, guessed_parts
from gapbench.cost.place import Place
from gapbench.cost.work import Work
from gapbench.suite.runspec import Frozen, RunSpec

KEPT = 4
"""Jobs of a program and a length, and starts of a worker, that are remembered: the last ones."""
KEPT_LENGTHS = 4
"""Lengths of jobs of a program that are remembered: those that trained last. Eight short jobs must not push out the long one."""

_SPEED_FIELDS = (
    "batch_size",
    "ghost_batch_size",
    "precision",
    "crop_padding",
    "crop_size",
    "crop_scale",
    "flip",
    "running_statistics",
    "probes",
)
"""Besides data set, model, optimizer and clipping, what the time of an update depends on."""


class TimedJob(Frozen):
    """What one job took, in seconds of all its replicas together. None: not known, or mixed with the start of its worker."""

    work: Work
    train_seconds: float = Field(gt=0.0, allow_inf_nan=False)
    evaluation_seconds: float = Field(ge=0.0, allow_inf_nan=False)
    setup_seconds: float | None = Field(None, ge=0.0, allow_inf_nan=False)
    """Of the bucket of everything else, without checkpoints."""
    outside_seconds: float | None = Field(None, ge=0.0, allow_inf_nan=False)


class Entry(Frozen):
    """What is known of one program."""

    family: str
    """What a guess can be corrected for: place, data set, model, precision."""
    batch_size: int = Field(gt=0)
    replicas: int = Field(gt=0)
    guess: Parts | None
    """At the same, to see by how much guesses are wrong; None where nothing can be guessed."""
    measured: Parts | None = None
    """By a short measurement."""
    jobs: tuple[TimedJob, ...] = ()
    """The last ones of several lengths, the newest at the end."""


class Start(Frozen):
    """What the start of a worker takes, once a slot."""

    outside_seconds: float = Field(ge=0.0, allow_inf_nan=False)
    """Until its first job trains: Python, torch, the engine. Beyond what any job takes."""
    inside_seconds: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    """What its first job takes longer, in the bucket of everything else: libraries that load themselves when they are needed."""
    base_mib: float | None = Field(None, ge=0.0, allow_inf_nan=False)
    """Memory that the worker held besides data, weights and activations; None: not known, as on a GPU."""


GUESSED_START = Start(outside_seconds=6.0, inside_seconds=1.0)
"""Python with torch on a slow core; nothing is known of this machine."""


class Known(BaseModel):
    """The file."""

    format: Literal[2] = 2
    machine: Mapping[str, str | int]
    entries: dict[str, Entry] = Field(default_factory=dict)
    starts: dict[str, tuple[Start, ...]] = Field(default_factory=dict)
    """By the way that the machine is shared out, the newest at the end."""


def calibration_file(place: Place) -> Path:
    """Returns the file of the machine; it may not exist yet."""
    return cache_dir() / f"calibration-{place.machine_id()}.json"


def record_job(spec: RunSpec, place: Place, *, replicas: int, job: TimedJob) -> None:
    """Remembers what a job took.

    Where the cache cannot be written to, nothing is remembered: predictions stay rough, results are not touched.
    """
    with _updating(place) as known:
        entry = _entry(known, spec, place, replicas)
        known.entries[_key(spec, place, replicas)] = entry.model_copy(update={"jobs": _last((*entry.jobs, job))})


def record_parts(spec: RunSpec, place: Place, *, replicas: int, parts: Parts) -> None:
    """Remembers what a short measurement found; a later one takes its place."""
    with _updating(place) as known:
        entry = _entry(known, spec, place, replicas)
        known.entries[_key(spec, place, replicas)] = entry.model_copy(update={"measured": parts})


def record_start(place: Place, start: Start) -> None:
    """Remembers what the start of a worker took."""
    with _updating(place) as known:
        known.starts[place.sharing()] = (*known.starts.get(place.sharing(), ()), start)[-KEPT:]


def lookup(spec: RunSpec, place: Place, *, replicas: int) -> Entry | None:
    """Returns what is known of just this program, here, or None."""
    return _read(place).entries.get(_key(spec, place, replicas))


def start_of_worker(place: Place) -> Start:
    """Returns what the start of a worker takes: the mean of the last ones here, else a guess."""
    starts = _read(place).starts.get(place.sharing())
    if not starts:
        return GUESSED_START
    return Start(
        outside_seconds=sum(start.outside_seconds for start in starts) / len(starts),
        inside_seconds=sum(start.inside_seconds for start in starts) / len(starts),
    )


def base_of_worker(place: Place) -> float | None:
    """Returns the memory in MiB that workers hold here whatever they train, the median of the last ones; None where that is not known."""
    known = [start.base_mib for start in _read(place).starts.get(place.sharing(), ()) if start.base_mib is not None]
    return median(known) if known else None


def relatives(spec: RunSpec, place: Place, *, replicas: int) -> list[Entry]:
    """Returns what is known of the same model at other batch sizes or with other replicas, the nearest first, of equals the last that came.

    Nearest in batch size, then in replicas: by how much a guess is wrong depends on both, as a stack shares what an update costs whatever
    it works on.
    """
    family, itself = _family(spec, place), _key(spec, place, replicas)
    newest_first = [entry for key, entry in _read(place).entries.items() if entry.family == family and key != itself][::-1]
    size = _mean_batch(spec)
    return sorted(newest_first, key=lambda entry: (abs(math.log(entry.batch_size / size)), abs(math.log(entry.replicas / replicas))))


def program_of(spec: RunSpec) -> str:
    """Returns what jobs whose updates take equally long have in common, replicas apart."""
    model = json.dumps(spec.model.options, sort_keys=True)
    fields = spec.model_dump(mode="json", include=set(_SPEED_FIELDS)) | {"clips": spec.clip_norm is not None}
    if spec.batches.grows:  # the mean update depends on how many there are of each size
        if spec.adaptive_batch is not None:
            fields["adaptive_batch"] = spec.adaptive_batch.model_dump(mode="json")
        fields["phases"] = [[phase.start, phase.batch_size_factor] for phase in spec.phases]
    return f"{spec.dataset.name} {spec.model.name} {model} {spec.optimizer.name} {json.dumps(fields, sort_keys=True)}"


def _entry(known: Known, spec: RunSpec, place: Place, replicas: int) -> Entry:
    """Returns the entry as it is, or a new one; the guess is today's."""
    guess = guessed_parts(spec, replicas=replicas, device_kind=place.device_kind)
    entry = known.entries.get(_key(spec, place, replicas))
    if entry is None:
        return Entry(family=_family(spec, place), batch_size=_mean_batch(spec), replicas=replicas, guess=guess)
    return entry.model_copy(update={"guess": guess})


def _last(jobs: Sequence[TimedJob]) -> tuple[TimedJob, ...]:
    """Returns the jobs that are worth keeping, in order."""
    by_length: dict[int, list[TimedJob]] = {}
    for job in reversed(jobs):
        by_length.setdefault(job.work.updates, []).append(job)
    kept = [job for group in list(by_length.values())[:KEPT_LENGTHS] for job in group[:KEPT]]
    return tuple(job for job in jobs if any(job is other for other in kept))


def _mean_batch(spec: RunSpec) -> int:
    return max(1, round(spec.examples / spec.updates)) if spec.batches.grows else spec.batch_size


def _family(spec: RunSpec, place: Place) -> str:
    model = json.dumps(spec.model.options, sort_keys=True)
    return f"{place.sharing()} {spec.dataset.name} {spec.model.name} {model} {spec.precision}"


def _key(spec: RunSpec, place: Place, replicas: int) -> str:
    return f"{place.sharing()} {program_of(spec)} x{replicas}"


_cached: tuple[tuple[Path, int, int], Known] | None = None
"""The file as it was last read, by path, time of change and size: a plan asks several times for each cell."""


def _read(place: Place) -> Known:
    """Returns what is known; a file that is missing, damaged, of another format or of another machine is as good as none."""
    global _cached
    path = calibration_file(place)
    try:
        status = path.stat()
        state = (path, status.st_mtime_ns, status.st_size)
        if _cached is None or _cached[0] != state:
            _cached = (state, Known.model_validate_json(path.read_bytes()))
    except (OSError, ValidationError):
        return Known(machine=place.machine())
    known = _cached[1]
    return known if dict(known.machine) == dict(place.machine()) else Known(machine=place.machine())


@contextlib.contextmanager
def _updating(place: Place) -> Iterator[Known]:
    """Yields what is known, to be changed, and writes it; two processes do so one after the other."""
    path = calibration_file(place)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock")).acquire(timeout=5.0)
    except (OSError, Timeout):
        yield Known(machine=place.machine())
        return
    with lock:
        known = _read(place).model_copy(deep=True)
        yield known
        with contextlib.suppress(OSError):
            _write(path, known)


def _write(path: Path, known: Known) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(known.model_dump_json(indent=1))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
