"""A trainer: everything that one job needs to train, built from its specs, with `snapshot()` and `restore()`."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from gapbench.catalog import ProbeEntry, models, probes
from gapbench.core.errors import TrainingError
from gapbench.core.events import Event, Measured
from gapbench.core.hashing import derive_seed, stream
from gapbench.core.registry import load_target
from gapbench.engine.adaptation import FRACTIONS, Adaptation, covariance_ratio
from gapbench.engine.evaluation import Evaluation, Evaluator
from gapbench.engine.feed import Feed
from gapbench.engine.flat import FlatNetwork, check_untied
from gapbench.engine.objective import TrainingObjective
from gapbench.engine.prepared import PreparedProgram, make_program, usual_updates
from gapbench.engine.program import Probe, Program
from gapbench.layers.ghost_batch_norm import convert_batch_norm, ghost_norm_form, triton_trouble
from gapbench.layers.keyed import normals
from gapbench.layers.recompute import Recomputed
from gapbench.layers.rows import row_norms
from gapbench.layers.stacked import can_stack
from gapbench.probes import Columns, TrainState
from gapbench.suite.batches import LATE, BatchTable, evaluation_updates, keep_updates, probe_updates
from gapbench.suite.runspec import RunSpec
from gapbench.workloads.datasets.arrays import Pool, Split


@torch.no_grad()
def perturb(model: nn.Module, share: float, seed: int) -> None:
    """Moves the parameters of `model` by `share` of their norm along a Gaussian direction that `seed` alone decides.

    A run that starts so has a twin that does not: how far the two come apart is chaos alone.

    The step is rounded to what the weights' own precision resolves, so that its length is `share` to within some percent where
    `share` is 1e-6, and no less than one unit in the last place of a weight where a weight moves at all.
    """
    parameters = [parameter for _, parameter in model.named_parameters()]
    words = stream(seed, "perturbation").at(0, torch.arange(sum(parameter.numel() for parameter in parameters)))
    direction = normals(words)
    norm = torch.cat([parameter.detach().double().flatten() for parameter in parameters]).norm()
    step = direction * (share * norm / direction.norm())
    for parameter, piece in zip(parameters, step.split([parameter.numel() for parameter in parameters]), strict=True):
        parameter.copy_(parameter.double() + piece.view(parameter.shape))


class Clock:
    """Books the time of a job on training, evaluation (probes included) and other, after the device has finished what belongs to each."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = {"train": 0.0, "evaluation": 0.0, "other": 0.0}
        """Of all starts of the job."""
        self._device = device
        self._start = self._last = time.perf_counter()

    def lap(self, bucket: str) -> float:
        """Books the time since the last lap, in seconds, and returns it. Waits for the device."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        self.seconds[bucket] += elapsed
        return elapsed

    @contextmanager
    def beside(self, bucket: str) -> Iterator[None]:
        """What is done within it is no training. Waits for the device before and after."""
        self.lap("train")
        yield
        self.lap(bucket)

    @property
    def elapsed(self) -> float:
        """Seconds since this start of the job."""
        return time.perf_counter() - self._start


class Measurements:
    """What probes measured: it goes to the host without anyone waiting for it, and is emitted at evaluations and checkpoints, in order."""

    def __init__(self, emit: Callable[[Event], None], batches: BatchTable, layers: Sequence[Columns]) -> None:
        self._emit = emit
        self._batches = batches
        self._layers = [layer.name for layer in layers]
        self._waiting: list[tuple[int, Mapping[str, Tensor]]] = []
        self._arrived: torch.cuda.Event | None = None
        """Reached when the device has sent everything that waits."""

    def follow(self, batches: BatchTable) -> None:
        """Takes another table of batches, which is the same for the updates that were made."""
        self._batches = batches

    def record(self, update: int, values: Mapping[str, Tensor]) -> None:
        """Keeps device tensors without waiting: [replica], [replica, layer] (named `metric/layer`), [replica, bucket] (`metric/bucket`)."""
        # From a GPU into pinned memory, when it comes to it.
        sent = {name: value.detach().to("cpu", non_blocking=True, copy=True) for name, value in values.items()}
        self._waiting.append((update, sent))
        devices = [value.device for value in values.values() if value.device.type == "cuda"]
        if devices:
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(devices[0]))

    def flush(self, first_bad: Sequence[int]) -> None:
        """Emits everything that waits; of a diverged replica only what precedes the update it diverged at. Waits for the device."""
        if self._arrived is not None:
            self._arrived.synchronize()
        for update, values in self._waiting:
            rows = {name: value.double().tolist() for name, value in values.items()}
            for replica, bad in enumerate(first_bad):
                if bad < 0 or update < bad:
                    self.emit(replica, update, {name: value[replica] for name, value in rows.items()})
        self._waiting.clear()

    def emit(self, replica: int, update: int, values: Mapping[str, float | list[float]]) -> None:
        """Emits values that are on the host already. Numbers that are not finite are left out: they are no measurements."""
        rows: list[tuple[str, str, float]] = []
        for name, value in values.items():
            metric = name.removesuffix("/layer").removesuffix("/bucket")
            if isinstance(value, list):
                labels = map(str, range(len(value))) if name.endswith("/bucket") else self._layers
                rows.extend((metric, label, item) for label, item in zip(labels, value, strict=True) if math.isfinite(item))
            elif math.isfinite(value):
                rows.append((metric, "", value))
        if rows:
            self._emit(Measured(replica, update, self._batches.examples(update), tuple(rows)))


# Micro-batches: an update computed in pieces, only where that is exact.
#
# Plain batch norm over a piece is ghost batch norm, another method. So a batch is cut only where the ghost batch size divides the
# pieces, or where nothing couples the examples of a batch; a model of a user's own is put to the test before the first update.

TOLERANCE = {"fp32": 1e-3, "bf16": 3e-2}
"""Difference of logits, relative to their largest, that rounding may explain. Statistics of 2 groups instead of 1 change them by more
than 0.05 up to groups of some hundred examples."""


def check_exact(program: Program, feed: Feed, spec: RunSpec, micro_batch_size: int) -> None:
    """Raises TrainingError unless updates in micro-batches of this size are those of the whole batch, but for rounding."""
    largest = feed.batches.largest
    if micro_batch_size < 1 or largest % micro_batch_size:
        raise TrainingError(f"a batch of {largest} cannot be cut into micro-batches of {micro_batch_size}")
    if micro_batch_size == largest:
        return
    ghost = spec.ghost_batch_size
    if program.network.norms and (ghost is None or micro_batch_size % ghost):
        size = "off (the whole batch)" if ghost is None else str(ghost)
        raise TrainingError(
            f"micro-batches of {micro_batch_size} would change batch norm, whose ghost batch size is {size}: "
            "train the batch whole, or set a ghost batch size that divides the micro-batch"
        )
    difference = _coupling(program, feed, ghost if program.network.norms and ghost is not None else 1)
    if not difference <= TOLERANCE[spec.precision]:
        raise TrainingError(
            f"model {spec.model.name} couples the examples of a batch, or draws its own random numbers (logits change by {difference:.1e} "
            "when a batch is cut): its updates cannot be computed in micro-batches"
        )


@torch.no_grad()
def _coupling(program: Program, feed: Feed, unit: int) -> float:
    """Returns how much logits of 2 x `unit` examples change, relative to the largest, when each half is computed by itself."""
    devices = [feed.device] if feed.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), program.network.norms_unmoved():
        whole = program.forward(feed.piece(0, 2 * unit))
        halves = torch.cat([program.forward(feed.piece(first, unit)) for first in (0, unit)], dim=2)
    return float((whole - halves).abs().max() / whole.abs().max().clamp_min(1e-12))


EARLY = 0.05
"""Clipping in this first part of training plays the role of warmup; `clipped_share_late` is about the rest."""


class Trainer:
    """Network, feed, program, evaluator and recorder of one job, and how far it has come.

    Args:
        specs: the runs, one a replica.
        pool: all examples of their data set.
        splits: one a replica.
        device: where to train.
        emit: receives what is measured.
        probes: by stage, in place of those that the specs name.
        objective: whether these get `state.objective`; probes that the specs name say so in the catalog.
        micro_batch_size: examples of one replica that are computed at once; default: the whole batch.
        compiles: whether `prepare` is to try to compile the network.
        recomputes: whether the blocks of the network pass forward again in the backward pass.
        make: makes the program, as `make_program` does.

    Raises:
        TrainingError: the runs cannot train together, the model does not fit the data, or micro-batches would not be exact.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        pool: Pool,
        splits: Sequence[Split],
        *,
        device: torch.device,
        emit: Callable[[Event], None],
        probes: Mapping[str, Sequence[Probe]] | None = None,
        objective: bool = False,
        micro_batch_size: int | None = None,
        compiles: bool = False,
        recomputes: bool = False,
        make: Callable[..., Program] = make_program,
    ) -> None:
        spec = specs[0]
        self.clock = Clock(device)
        exact_arithmetic()
        self.specs = tuple(specs)
        self.spec = spec
        self.device = device
        self.feed = Feed(pool, splits, specs, device)
        networks = [_initial_network(item, self.feed.input_shape, pool.classes) for item in specs]
        stackable = can_stack(networks[0])
        if len(specs) > 1 and not stackable:
            raise TrainingError(f"model {spec.model.name} cannot train as a stack; train its runs one by one")
        decay_matrices_only = spec.weight_decay_on == "matrices"
        bf16 = spec.precision == "bf16"
        self.network = FlatNetwork(networks, device=device, decay_matrices_only=decay_matrices_only, stacked=stackable, bf16=bf16)
        recomputed = Recomputed(self.network.module) if recomputes else None
        # Randomness of a user's own layers, beyond the hashed dropout of gapbench; part of every snapshot.
        torch.manual_seed(derive_seed(spec.order_seed, "library"))
        self.batches = self.feed.batches
        self._given_probes = probes
        self._look_at_moments()
        self.micro_batch_size = micro_batch_size or self.batches.largest
        self.program = make(self.network, specs, self._probes.get("micro-batch", ()), resets=self._resets(), compiles=compiles)
        if recomputed is not None:
            self.program.kind = f"{self.program.kind}, recomputed"
        if objective or (probes is None and any(entry.needs_objective for entry in _chosen_probes(spec))):
            self.program.objective = TrainingObjective(self.network, self.feed, specs, self.micro_batch_size, recomputed)
        self.evaluator = Evaluator(self.program, self.feed, splits, spec)
        self.measurements = Measurements(emit, self.batches, self.network.layers)
        self.update = 0
        self.headline: list[dict[str, list[float]]] = []
        """The last evaluations, as many as the headline averages over."""
        self.clipped_early = torch.zeros_like(self.program.clipped_updates)
        self.network.module.train()
        check_exact(self.program, self.feed, spec, self.micro_batch_size)
        self._adaptation: Adaptation | None = None
        if spec.adaptive_batch is not None:
            if len(specs) > 1:
                raise TrainingError("a run whose batch follows the noise scale has a table of batches of its own; train it alone")
            self._adaptation = Adaptation(spec)
            self._measured = TrainingObjective(self.network, self.feed, specs, self.micro_batch_size, recomputed)

    def prepare(self) -> None:
        """Compiles and records the updates that are still to come, where the program does so. To be called before the first `step`."""
        if isinstance(self.program, PreparedProgram):
            usual = usual_updates(self.feed, self.micro_batch_size, begin=self.update, compiles=self.program.compiles)
            self.program.prepare(usual)

    def look_at(self, *, probe_updates: Iterable[int] | None = None, evaluation_updates: Iterable[int] | None = None) -> None:
        """Replaces after which updates probes or evaluations are due; None leaves them. For timing, before the first `step`."""
        if probe_updates is not None:
            self.probe_updates = frozenset(probe_updates)
        if evaluation_updates is not None:
            self.evaluation_updates = frozenset(evaluation_updates)

    def skip_to(self, update: int) -> None:
        """Goes to a later update of the schedule with the weights as they are. For timing, which asks how often something is due there."""
        self.update = update

    def _look_at_moments(self) -> None:
        """Finds when to look at what, from the table of batches; where that is decided while training, after each decision."""
        spec, batches = self.spec, self.batches
        self.keep_updates = keep_updates(batches, spec.keep_weights)
        kept = frozenset(self.keep_updates)
        self._probes, looked = _load_probes(spec, batches) if self._given_probes is None else (self._given_probes, kept)
        self.checkpoint_updates = looked | kept
        """Where weights are kept, and where probes of stage `checkpoint` look besides."""
        self.probe_updates = probe_updates(batches.updates)
        self.evaluation_updates = frozenset(evaluation_updates(batches, spec.evaluations))
        self._covariance_updates = _first_from(self.evaluation_updates, [fraction * batches.updates for fraction in FRACTIONS])
        self.early_updates = batches.updates_at(math.ceil(EARLY * batches.all_steps))

    def _resets(self) -> tuple[int, ...]:
        """Returns the updates before which the optimizer forgets its state."""
        return self.batches.epoch_starts(self.feed.train_size) if self.spec.momentum_reset == "epoch" else ()

    def _follow(self, batches: BatchTable) -> None:
        """Takes another table of batches, which is the same for the updates that were made."""
        self.batches = self.feed.batches = batches
        self.measurements.follow(batches)
        self.program.follow(batches, self._resets())
        self._look_at_moments()

    @property
    def complete(self) -> bool:
        """Whether all updates are made."""
        return self.update >= self.batches.updates

    def step(self) -> TrainState | None:
        """Makes the next update. Returns the state for probes where they are due.

        Never waits for the device, but where a batch size that follows the noise scale is decided on.
        """
        changes = self._adapt() if self._adaptation is not None else {}
        done = self.update + 1
        observe = done in self.probe_updates or done in self.evaluation_updates or done in self.checkpoint_updates
        state = self.program.update(self.update, self.feed.micro_batches(self.update, self.micro_batch_size), observe=observe)
        self.update += 1
        if self.batches.grows:
            self._record_size(changes, observe=observe)
        if self.update == self.early_updates:
            self.clipped_early = self.program.clipped_updates.clone()
        return state

    def _adapt(self) -> dict[str, Tensor]:
        """Decides on the batch size and measures the noise scale, where either is due. Returns what the decision rests on."""
        adaptation, rests = self._adaptation, {}
        assert adaptation is not None
        if adaptation.decide(self.batches, self.update):
            self._follow(adaptation.table)
            scale = adaptation.noise_scale
            rests = {} if scale is None else {"adaptive_noise_scale": torch.tensor([scale], dtype=torch.float64)}
        adaptation.measure(self._measured.at(self.update + 1), self.update)
        return rests

    def _record_size(self, values: Mapping[str, Tensor], *, observe: bool) -> None:
        """Records the size of the last batch where it is observed or another than before, so that the curve has every size."""
        size, before = self.batches.at(self.update - 1).size, self.batches.at(max(0, self.update - 2)).size
        if observe or size != before:
            values = {"batch_size": torch.full((len(self.specs),), float(size)), **values}
        if values:
            self.measurements.record(self.update, values)

    def probe(self, state: TrainState, stage: str) -> None:
        """Runs the probes of a stage; their values wait on the device."""
        values = dict(state.early) if stage == "update" else {}
        for probe in self._probes.get(stage, ()):
            values.update(probe(state))
        if values:
            self.measurements.record(self.update, values)

    def evaluate(self) -> Evaluation:
        """Evaluates all replicas, hands everything measured so far to the recorder's events, keeps what the headline needs."""
        recalibrate = self.complete or self.batches.steps(self.update) < LATE * self.batches.all_steps
        evaluation = self.evaluator.evaluate(recalibrate=recalibrate, batch_size=self.batches.at(max(0, self.update - 1)).batch_size)
        first_bad = self.first_bad()
        if self.update in self._covariance_updates:
            ratios = covariance_ratio(self.program, self.feed, self.spec, self.update, self.micro_batch_size)
            if ratios is not None:
                evaluation = replace(evaluation, values={**evaluation.values, "gradient_covariance_ratio": ratios})
        self.measurements.flush(first_bad)
        for replica, bad in enumerate(first_bad):
            if bad < 0:
                self.measurements.emit(replica, self.update, {name: values[replica] for name, values in evaluation.values.items()})
        numbers = {name: values for name, values in evaluation.values.items() if name != "gradient_covariance_ratio"}
        self.headline = [*self.headline, numbers][-self.spec.headline_evaluations :]
        return evaluation

    def first_bad(self) -> list[int]:
        """Returns, by replica, the update at which its loss was first not finite, counted from 1; -1: never. Waits for the device."""
        return [int(value) for value in self.program.first_bad(self.update).tolist()]

    def summary(self, replica: int, peak_memory_mib: float) -> dict[str, Any]:
        """Returns the columns of the run table that only training knows. Accuracies are fractions."""
        results: dict[str, Any] = {
            name: float(np.mean([values[name][replica] for values in self.headline]))
            for name in (self.headline[-1] if self.headline else {})
            if not name.startswith("recalibrated_")
        }
        return results | self.timing(replica, peak_memory_mib)

    def timing(self, replica: int, peak_memory_mib: float) -> dict[str, Any]:
        """Returns what is known of a run that ended early, too: how far it came and what it took. Seconds are its share of the stack's."""
        clipped, early = float(self.program.clipped_updates[replica]), float(self.clipped_early[replica])
        late = self.update - self.early_updates
        distance = row_norms((self.network.weights[replica] - self.network.initial_weights[replica])[None])
        replicas = len(self.specs)
        return {
            "updates": self.update,
            "examples": self.batches.examples(self.update),
            "weight_distance": float(distance),
            "clipped_share": clipped / max(self.update, 1),
            "clipped_share_late": (clipped - early) / late if late > 0 else None,
            "train_seconds": self.clock.seconds["train"] / replicas,
            "evaluation_seconds": self.clock.seconds["evaluation"] / replicas,
            "other_seconds": self.clock.seconds["other"] / replicas,
            "peak_memory_mib": peak_memory_mib,
            "program": self.program.kind,
            "program_refused": "; ".join(self._refused()) or None,
            "ghost_norm_form": ghost_norm_form(self.network.module) or None,
            "micro_batch_size": self.micro_batch_size,
        }

    def _refused(self) -> list[str]:
        """Returns the faster ways that were not taken, and why."""
        trouble = triton_trouble() if self.device.type == "cuda" else None
        return [*self.program.refused, *([f"triton: {trouble}"] if trouble else [])]

    def snapshot(self, replica: int) -> dict[str, Any]:
        """Returns all that one run needs to go on bit by bit: tensors on the CPU and plain numbers."""
        return {
            "update": self.update,
            "micro_batch_size": self.micro_batch_size,
            "network": self.network.snapshot(replica),
            "program": self.program.snapshot(replica, self.update),
            "clipped_early": float(self.clipped_early[replica]),
            "headline": [{name: values[replica] for name, values in evaluation.items()} for evaluation in self.headline],
            "seconds": {name: seconds / len(self.specs) for name, seconds in self.clock.seconds.items()},
            "adaptation": None if self._adaptation is None else self._adaptation.snapshot(),
            "torch_random_state": torch.get_rng_state(),
            "cuda_random_state": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def restore(self, snapshots: Sequence[Mapping[str, Any]]) -> None:
        """Takes back one snapshot a replica. Raises TrainingError where they are not all of the same update."""
        updates = {int(snapshot["update"]) for snapshot in snapshots}
        if len(updates) != 1:
            raise TrainingError(f"cannot resume runs of different updates ({sorted(updates)}) as one stack")
        self.update = updates.pop()
        if self._adaptation is not None:
            self._adaptation.restore(snapshots[0]["adaptation"])
            self._follow(self._adaptation.table)
        for replica, snapshot in enumerate(snapshots):
            self.network.restore(replica, snapshot["network"])
            self.program.restore(replica, snapshot["program"])
            self.clipped_early[replica] = snapshot["clipped_early"]
        self.headline = [
            {name: [snapshot["headline"][position][name] for snapshot in snapshots] for name in evaluation}
            for position, evaluation in enumerate(snapshots[0]["headline"])
        ]
        self.clock.seconds = {name: sum(snapshot["seconds"][name] for snapshot in snapshots) for name in self.clock.seconds}
        torch.set_rng_state(snapshots[0]["torch_random_state"])
        if self.device.type == "cuda" and snapshots[0]["cuda_random_state"] is not None:
            torch.cuda.set_rng_state(snapshots[0]["cuda_random_state"], self.device)


def exact_arithmetic() -> None:
    """Switches TF32 off: fp32 means fp32, on every device."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def _first_from(updates: Iterable[int], starts: Iterable[float]) -> frozenset[int]:
    """Returns the first of `updates` at or after each start."""
    ordered = sorted(updates)
    return frozenset(next(update for update in ordered if update >= start) for start in starts)


def _initial_network(spec: RunSpec, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Builds a run's model on the CPU, so that its initial weights are the same whatever the device."""
    build = load_target(models()[spec.model.name].target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(spec.init_seed, "initial weights"))
        model: nn.Module = build(input_shape, classes, **spec.model.options)
    check_untied(model)
    if spec.initial_perturbation:
        perturb(model, spec.initial_perturbation, spec.init_seed)
    return convert_batch_norm(
        model, ghost_batch_size=spec.ghost_batch_size, running_statistics=spec.running_statistics, momentum=spec.norm_momentum
    )


def _chosen_probes(spec: RunSpec) -> list[ProbeEntry]:
    """Returns the probes that always run, and those that the suite names."""
    return [entry for name, entry in probes().items() if entry.default or name in spec.probe_options]


def _load_probes(spec: RunSpec, batches: BatchTable) -> tuple[dict[str, list[Probe]], frozenset[int]]:
    """Returns the chosen probes by stage, and the updates at which those of stage `checkpoint` look."""
    chosen: dict[str, list[Probe]] = {"micro-batch": [], "update": [], "evaluation": [], "checkpoint": []}
    looked: set[int] = set()
    for entry in _chosen_probes(spec):
        options = dict(spec.probe_options.get(entry.name, {}))
        at = options.pop("at", []) if entry.stage == "checkpoint" else []
        probe: Probe = functools.partial(load_target(entry.target), **options) if options else load_target(entry.target)
        if entry.stage == "checkpoint":
            updates = frozenset(keep_updates(batches, tuple(cast("list[float]", at)) or spec.keep_weights))
            looked |= updates
            probe = functools.partial(_when_due, probe, updates)
        if not entry.target.startswith("gapbench."):
            probe = functools.partial(_as_declared, probe, entry)
        chosen[entry.stage].append(probe)
    return chosen, frozenset(looked)


def _when_due(probe: Probe, updates: frozenset[int], state: TrainState) -> Mapping[str, Tensor]:
    return probe(state) if state.update in updates else {}


def _as_declared(probe: Probe, entry: ProbeEntry, state: TrainState) -> Mapping[str, Tensor]:
    """Raises TrainingError where a plugin's probe returns other metrics than it is declared with; none at all: there was nothing to see."""
    answer = probe(state)
    text, remedy = entry.mismatch(answer) if answer else ("", "")
    if text:
        raise TrainingError(f'probe "{entry.name}" {text}; {remedy}')
    return answer
