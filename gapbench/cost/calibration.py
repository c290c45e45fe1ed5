"""What jobs took on this machine, beside what was guessed: a file in the cache, one a machine, by which the next guesses are corrected.

For every program, number of replicas and way to share out the machine two things are kept: a short measurement
(`gapbench plan --calibrate`), and the last jobs, noted after each of them. Both are kept as scales: actual by guessed seconds of training
and of evaluation, and what a job takes once. A machine with another processor, GPU, torch or gapbench has another file; other threads or
slots have other entries. Nothing is ever used for what it was not timed on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import BinaryIO, Literal, TypeAlias

from filelock import FileLock, Timeout
from pydantic import BaseModel, Field, ValidationError

import gapbench
from gapbench.core.errors import StoreError
from gapbench.core.machine import cache_dir
from gapbench.cost.guess import Guess, guess, work_of
from gapbench.sizing.sizes import model_size
from gapbench.store.files import write_atomically
from gapbench.store.provenance import cpu_name, package_version
from gapbench.suite.runspec import Frozen, RunSpec


@dataclass(frozen=True)
class Place:
    """Where something was timed, and so where the timing may be used: a machine, and how it is shared out into slots."""

    device_kind: str
    """"cpu" or "cuda"."""
    device_name: str
    """Product name of the device."""
    cores: int
    """That gapbench may use."""
    threads: int
    """Of one slot."""
    slots: int
    """That train at a time: they share the machine's memory bandwidth, so that each is slower than one alone."""
    devices: int = 1
    """That these slots are spread over: two slots of one GPU share it, one slot each of two GPUs share only the host."""

    def machine(self) -> Mapping[str, str | int]:
        """Returns what another machine, torch or gapbench would have different: none of its timings is used here."""
        return {
            "cpu": cpu_name(),
            "cores": self.cores,
            "gpu": self.device_name if self.device_kind != "cpu" else "",
            "torch": package_version("torch") or "",
            "gapbench": gapbench.__version__,
        }

    def machine_id(self) -> str:
        """Returns a short name of the machine, for files."""
        return hashlib.sha256(json.dumps(self.machine(), sort_keys=True).encode()).hexdigest()[:12]

    def sharing(self) -> str:
        """Returns how the machine is shared out, as part of a key."""
        shared = f"{self.device_kind} {self.slots}x{self.threads}"
        return shared if self.device_kind == "cpu" else f"{shared} on {self.devices}"


Basis: TypeAlias = Literal["measured", "calibrated", "rough", "unknown"]
"""measured: by jobs that trained here; calibrated: by a short measurement here; rough: guessed; unknown: not even that."""

KEPT = 4
"""Jobs of a program and a length, and starts of a worker, that are remembered: the last ones."""
KEPT_LENGTHS = 4
"""Lengths of jobs of a program that are remembered: those that trained last. Eight short jobs must not push out the long one."""
FADING = 0.5
"""Trust in a job beside the next one of its length."""
ENOUGH_SHARE = 0.1
"""A job of this share of the updates in question counts a quarter, one of a tenth of that hardly at all: short ones warm up most of their
time, and the three updates of `--smoke` do nothing else."""
MEASUREMENT_TRUST = 0.2
"""Trust in a short measurement; the last job of full length counts 0.8."""
GUESS_TRUST = 0.02
"""The same of a guess."""

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


@dataclass(frozen=True)
class Buckets:
    """Seconds as results record them."""

    train: float
    evaluation: float
    other: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.train + self.evaluation + self.other


@dataclass(frozen=True)
class Timed:
    """What a job took that began at its first update and ended ok."""

    spec: RunSpec
    """Of one of its runs."""
    replicas: int
    seconds: Buckets
    """Of all its runs together."""
    setup_seconds: float | None = None
    """Of the bucket of everything else, without checkpoints; None: not known, as its worker had not trained its program before."""
    outside_seconds: float | None = None
    """Outside of the buckets; None: not known, as its worker had trained nothing before."""


class Scales(Frozen):
    """By what a guess is corrected, and what a job takes once, in seconds of all its replicas together."""

    train: float = Field(1.0, gt=0.0, allow_inf_nan=False)
    """Actual by guessed seconds."""
    evaluation: float = Field(1.0, ge=0.0, allow_inf_nan=False)
    """The same of evaluation."""
    setup_seconds: float = Field(ge=0.0, allow_inf_nan=False)
    program_seconds: float = Field(ge=0.0, allow_inf_nan=False)
    outside_seconds: float = Field(ge=0.0, allow_inf_nan=False)


class TimedJob(Frozen):
    """What one job took. None: not known, or mixed with the start of its worker."""

    updates: int
    train: float = Field(gt=0.0, allow_inf_nan=False)
    """Actual by guessed seconds."""
    evaluation: float = Field(ge=0.0, allow_inf_nan=False)
    """The same of evaluation."""
    setup_seconds: float | None = Field(None, ge=0.0, allow_inf_nan=False)
    """Of the bucket of everything else, without checkpoints."""
    outside_seconds: float | None = Field(None, ge=0.0, allow_inf_nan=False)


class Entry(Frozen):
    """What is known of one program."""

    family: str
    """Programs of one model in one place: what is known of one corrects the guess at another."""
    batch_size: int = Field(gt=0)
    replicas: int = Field(gt=0)
    measured: Scales | None = None
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
    """What is kept of a machine."""

    format: Literal[3] = 3
    machine: Mapping[str, str | int]
    entries: dict[str, Entry] = Field(default_factory=dict)
    starts: dict[str, tuple[Start, ...]] = Field(default_factory=dict)
    """By the way that the machine is shared out, the newest at the end."""


def calibration_file(place: Place) -> Path:
    """Returns the file of the machine; it may not exist yet."""
    return cache_dir() / f"calibration-{place.machine_id()}.json"


def learned(spec: RunSpec, place: Place | None, *, replicas: int, device_kind: str) -> tuple[Scales, Basis]:
    """Returns by what a guess at a job is corrected, and what that rests on.

    Args:
        spec: of one of its runs.
        place: where it would train; None: anywhere, so that only a guess is possible.
        replicas: runs of the job.
        device_kind: "cpu" or "cuda".
    """
    guessed = guess(spec, replicas=replicas, device_kind=device_kind)
    prior, weight = _uncorrected(guessed), GUESS_TRUST
    basis: Basis = "rough"
    if model_size(spec) is None:
        weight, basis = 0.0, "unknown"
    if place is None:
        return prior, basis
    entry = lookup(spec, place, replicas=replicas)
    jobs = entry.jobs if entry else ()
    if entry and entry.measured:
        prior, weight, basis = entry.measured, MEASUREMENT_TRUST, "calibrated"
    elif basis == "rough":
        prior = _of_relatives(spec, place, replicas, prior)
    trust = _trust(jobs, spec.updates)
    if sum(trust) >= MEASUREMENT_TRUST:
        basis = "measured"
    elif jobs and basis == "unknown":
        basis = "rough"
    return _corrected(prior, weight, jobs, trust), basis


def scaled(timed: Timed, device_kind: str) -> TimedJob:
    """Returns what a job took beside what was guessed of it.

    Raises:
        ValidationError: seconds that are none.
    """
    guessed = guess(timed.spec, replicas=timed.replicas, device_kind=device_kind)
    work = work_of(timed.spec, replicas=timed.replicas)
    return TimedJob(
        updates=timed.spec.updates,
        train=timed.seconds.train / guessed.train(work),
        evaluation=timed.seconds.evaluation / guessed.evaluation(work),
        setup_seconds=timed.setup_seconds,
        outside_seconds=timed.outside_seconds,
    )


def record_job(place: Place, timed: Timed) -> None:
    """Remembers what a job took in a place.

    Where the cache cannot be written to, nothing is remembered: predictions stay rough, results are not touched.

    Raises:
        ValidationError: seconds that are none.
    """
    job = scaled(timed, place.device_kind)
    with _updating(place) as known:
        entry = _entry(known, timed.spec, place, timed.replicas)
        known.entries[_key(timed.spec, place, timed.replicas)] = entry.model_copy(update={"jobs": _last((*entry.jobs, job))})


def record_measurement(spec: RunSpec, place: Place, *, replicas: int, measured: Scales) -> None:
    """Remembers what a short measurement found; a later one takes its place."""
    with _updating(place) as known:
        entry = _entry(known, spec, place, replicas)
        known.entries[_key(spec, place, replicas)] = entry.model_copy(update={"measured": measured})


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
    """Returns the entry as it is, or a new one."""
    fresh = Entry(family=_family(spec, place), batch_size=_mean_batch(spec), replicas=replicas)
    return known.entries.get(_key(spec, place, replicas), fresh)


def _uncorrected(guessed: Guess) -> Scales:
    return Scales(setup_seconds=guessed.setup_seconds, program_seconds=guessed.program_seconds, outside_seconds=guessed.outside_seconds)


def _of_relatives(spec: RunSpec, place: Place, replicas: int, otherwise: Scales) -> Scales:
    """Returns the scales of the same model at the nearest batch size, of equals with the nearest number of replicas, then the newest.

    By how much a guess is wrong depends on both, as a stack shares what an update costs whatever it works on.
    """
    family, itself, size = _family(spec, place), _key(spec, place, replicas), _mean_batch(spec)
    others = [entry for key, entry in _read(place).entries.items() if entry.family == family and key != itself]
    if not others:
        return otherwise
    nearest = min(reversed(others), key=lambda entry: (abs(math.log(entry.batch_size / size)), abs(math.log(entry.replicas / replicas))))
    weight = MEASUREMENT_TRUST if nearest.measured else GUESS_TRUST
    return _corrected(nearest.measured or otherwise, weight, nearest.jobs, _trust(nearest.jobs, spec.updates))


def _corrected(prior: Scales, weight: float, jobs: Sequence[TimedJob], trust: Sequence[float]) -> Scales:
    """Returns the mean of a prior and of jobs, by the trust in each."""

    def mean(name: str, weights: Sequence[float]) -> float:
        pairs = [(getattr(prior, name), weight), *((getattr(job, name), share) for job, share in zip(jobs, weights, strict=True))]
        known = [(value, share) for value, share in pairs if value is not None and share > 0.0]
        total = sum(share for _, share in known)
        return sum(value * share for value, share in known) / total if known else float(getattr(prior, name))

    # What happens once a job takes as long in a short job as in a long one.
    once = [FADING**age for age in reversed(range(len(jobs)))]
    found = {"train": mean("train", trust), "evaluation": mean("evaluation", trust)}
    found |= {name: mean(name, once) for name in ("setup_seconds", "outside_seconds")}
    return prior.model_copy(update=found)


def _trust(jobs: Sequence[TimedJob], updates: int) -> list[float]:
    """Returns how much each job says of one with so many updates: recent ones and long ones more."""
    trust = []
    for position, job in enumerate(jobs):
        later = sum(other.updates == job.updates for other in jobs[position + 1 :])
        trust.append(FADING**later * (job.updates / (job.updates + ENOUGH_SHARE * updates)) ** 2)
    return trust


def _last(jobs: Sequence[TimedJob]) -> tuple[TimedJob, ...]:
    """Returns the jobs that are worth keeping, in order."""
    by_length: dict[int, list[TimedJob]] = {}
    for job in reversed(jobs):
        by_length.setdefault(job.updates, []).append(job)
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
        text = known.model_dump_json(indent=1).encode()

        def write(file: BinaryIO) -> None:
            file.write(text)

        with contextlib.suppress(StoreError):
            write_atomically(path, write)
