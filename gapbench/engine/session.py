"""A session: everything that one job needs to train, built from its specs, with `snapshot()` and `restore()`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from gapbench.catalog import ProbeEntry, models, probes
from gapbench.core.errors import TrainingError
from gapbench.core.events import Event
from gapbench.core.hashing import derive_seed
from gapbench.core.registry import load_target
from gapbench.engine.covariance import FRACTIONS, covariance_ratio
from gapbench.engine.evaluation import Evaluation, Evaluator
from gapbench.engine.feed import Feed
from gapbench.engine.flat import FlatNetwork
from gapbench.engine.micro_batches import check_exact
from gapbench.engine.moments import evaluation_updates, keep_updates, probe_updates
from gapbench.engine.objective import TrainingObjective
from gapbench.engine.perturbation import perturb
from gapbench.engine.program import Probe, Program
from gapbench.engine.recorder import Recorder
from gapbench.layers.ghost_batch_norm import convert_batch_norm
from gapbench.layers.stacked import can_stack
from gapbench.probes import TrainState
from gapbench.suite.arithmetic import epoch_starts
from gapbench.suite.runspec import RunSpec
from gapbench.workloads.datasets.arrays import Pool, Split

EARLY = 0.05
"""Clipping in this first part of training plays the role of warmup; `clipped_share_late` is about the rest."""


class Session:
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
    ) -> None:
        spec = specs[0]
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
        # Randomness of a user's own layers, beyond the hashed dropout of gapbench; part of every snapshot.
        torch.manual_seed(derive_seed(spec.order_seed, "library"))
        kept = keep_updates(spec.updates, spec.keep_weights)
        self._probes, looked = _load_probes(spec) if probes is None else (probes, frozenset(kept))
        self.micro_batch_size = micro_batch_size or spec.batch_size
        pieces = max(1, spec.batch_size // self.micro_batch_size)
        starts = epoch_starts(spec.updates, self.feed.train_size, spec.batch_size, spec.tail)
        resets = starts if spec.momentum_reset == "epoch" else ()
        self.program = Program(self.network, specs, self._probes.get("micro-batch", ()), micro_batches=pieces, resets=resets)
        if objective or (probes is None and any(entry.needs_objective for entry in _chosen_probes(spec))):
            self.program.objective = TrainingObjective(self.network, self.feed, specs, self.micro_batch_size)
        self.evaluator = Evaluator(self.program, self.feed, splits, spec)
        self.recorder = Recorder(emit, spec.batch_size, self.network.layers)
        self.probe_updates = probe_updates(spec.updates)
        self.evaluation_updates = frozenset(evaluation_updates(spec.updates, spec.evaluations))
        self._covariance_updates = _first_from(self.evaluation_updates, [fraction * spec.updates for fraction in FRACTIONS])
        self.keep_updates = kept
        self.checkpoint_updates = looked | frozenset(kept)
        """Where weights are kept, and where probes of stage `checkpoint` look besides."""
        self.early_updates = math.ceil(EARLY * spec.updates)
        self.update = 0
        self.headline: list[dict[str, list[float]]] = []
        """The last evaluations, as many as the headline averages over."""
        self.clipped_early = torch.zeros_like(self.program.clipped_updates)
        self.seconds = {"train": 0.0, "evaluation": 0.0, "other": 0.0}
        self.network.module.train()
        check_exact(self.program, self.feed, spec, self.micro_batch_size)

    def step(self) -> TrainState | None:
        """Makes the next update. Returns the state for probes where they are due. Never waits for the device."""
        done = self.update + 1
        observe = done in self.probe_updates or done in self.evaluation_updates or done in self.checkpoint_updates
        state = self.program.update(self.update, self.feed.micro_batches(self.update, self.micro_batch_size), observe=observe)
        self.update += 1
        if self.update == self.early_updates:
            self.clipped_early = self.program.clipped_updates.clone()
        return state

    def probe(self, state: TrainState, stage: str) -> None:
        """Runs the probes of a stage; their values wait on the device."""
        values = dict(state.early) if stage == "update" else {}
        for probe in self._probes.get(stage, ()):
            values.update(probe(state))
        if values:
            self.recorder.record(self.update, values)

    def evaluate(self) -> Evaluation:
        """Evaluates all replicas, hands everything measured so far to the recorder's events, keeps what the headline needs."""
        last = self.update == self.spec.updates
        evaluation = self.evaluator.evaluate(recalibrate=last or self.update < 0.95 * self.spec.updates)
        first_bad = self.first_bad()
        if self.update in self._covariance_updates:
            ratios = covariance_ratio(self.program, self.feed, self.spec, self.update, self.micro_batch_size)
            if ratios is not None:
                evaluation = replace(evaluation, values={**evaluation.values, "gradient_covariance_ratio": ratios})
        self.recorder.flush(first_bad)
        for replica, bad in enumerate(first_bad):
            if bad < 0:
                self.recorder.emit(replica, self.update, {name: values[replica] for name, values in evaluation.values.items()})
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
        distance = (self.network.weights[replica] - self.network.initial_weights[replica]).norm()
        replicas = len(self.specs)
        return {
            "updates": self.update,
            "examples": self.update * self.spec.batch_size,
            "weight_distance": float(distance),
            "clipped_share": clipped / max(self.update, 1),
            "clipped_share_late": (clipped - early) / late if late > 0 else None,
            "train_seconds": self.seconds["train"] / replicas,
            "evaluation_seconds": self.seconds["evaluation"] / replicas,
            "other_seconds": self.seconds["other"] / replicas,
            "peak_memory_mib": peak_memory_mib,
            "program": self.program.kind,
            "micro_batch_size": self.micro_batch_size,
        }

    def snapshot(self, replica: int) -> dict[str, Any]:
        """Returns all that one run needs to go on bit by bit: tensors on the CPU and plain numbers."""
        return {
            "update": self.update,
            "micro_batch_size": self.micro_batch_size,
            "network": self.network.snapshot(replica),
            "program": self.program.snapshot(replica, self.update),
            "clipped_early": float(self.clipped_early[replica]),
            "headline": [{name: values[replica] for name, values in evaluation.items()} for evaluation in self.headline],
            "seconds": {name: seconds / len(self.specs) for name, seconds in self.seconds.items()},
            "torch_random_state": torch.get_rng_state(),
            "cuda_random_state": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def restore(self, snapshots: Sequence[Mapping[str, Any]]) -> None:
        """Takes back one snapshot a replica. Raises TrainingError where they are not all of the same update."""
        updates = {int(snapshot["update"]) for snapshot in snapshots}
        if len(updates) != 1:
            raise TrainingError(f"cannot resume runs of different updates ({sorted(updates)}) as one stack")
        self.update = updates.pop()
        for replica, snapshot in enumerate(snapshots):
            self.network.restore(replica, snapshot["network"])
            self.program.restore(replica, snapshot["program"])
            self.clipped_early[replica] = snapshot["clipped_early"]
        self.headline = [
            {name: [snapshot["headline"][position][name] for snapshot in snapshots] for name in evaluation}
            for position, evaluation in enumerate(snapshots[0]["headline"])
        ]
        self.seconds = {name: sum(snapshot["seconds"][name] for snapshot in snapshots) for name in self.seconds}
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
    if spec.initial_perturbation:
        perturb(model, spec.initial_perturbation, spec.init_seed)
    return convert_batch_norm(
        model, ghost_batch_size=spec.ghost_batch_size, running_statistics=spec.running_statistics, momentum=spec.norm_momentum
    )


def _chosen_probes(spec: RunSpec) -> list[ProbeEntry]:
    """Returns the probes that always run, and those that the suite names."""
    return [entry for name, entry in probes().items() if entry.default or name in spec.probe_options]


def _load_probes(spec: RunSpec) -> tuple[dict[str, list[Probe]], frozenset[int]]:
    """Returns the chosen probes by stage, and the updates at which those of stage `checkpoint` look."""
    chosen: dict[str, list[Probe]] = {"micro-batch": [], "update": [], "evaluation": [], "checkpoint": []}
    looked: set[int] = set()
    for entry in _chosen_probes(spec):
        options = dict(spec.probe_options.get(entry.name, {}))
        at = options.pop("at", []) if entry.stage == "checkpoint" else []
        probe: Probe = functools.partial(load_target(entry.target), **options) if options else load_target(entry.target)
        if entry.stage == "checkpoint":
            updates = frozenset(keep_updates(spec.updates, tuple(cast("list[float]", at)) or spec.keep_weights))
            looked |= updates
            probe = functools.partial(_when_due, probe, updates)
        chosen[entry.stage].append(probe)
    return chosen, frozenset(looked)


def _when_due(probe: Probe, updates: frozenset[int], state: TrainState) -> Mapping[str, Tensor]:
    return probe(state) if state.update in updates else {}
