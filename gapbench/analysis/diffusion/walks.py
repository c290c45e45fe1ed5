"""The walks of a cell, read from the tables: distances, angles, sketches, the updates over which they are compared, and their clocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gapbench.analysis.cells import Cell
from gapbench.analysis.curves import SKETCH, Curve, Curves, Window, common_updates
from gapbench.analysis.formats import counted
from gapbench.analysis.stats import LEVEL, Array, Estimate, t_interval, t_quantile
from gapbench.suite.runspec import RunSpec

if TYPE_CHECKING:
    pass

# Drift and spread over data orders from one initialization, from sketches of the displacements.
#
# Of S displacements d_i: V = sum |d_i - mean d|^2 / (S - 1); spread^2 = V; drift^2 = mean |d|^2 - V. What all orders share is drift and no
# diffusion: a distance alone cannot tell the two. Intervals are jackknifed over the orders, and the sketch's own error is added.

FEWEST_ORDERS = 8
QUANTITIES = ("total", "drift", "spread")


@dataclass(frozen=True, eq=False)
class Logs:
    """The natural logarithm of a quantity: of all orders first, then without each of them; [1 + order, point]. Drift may be NaN."""

    replicates: Array
    sketch_error: Array
    """Standard error of the logarithm that the sketch brings in, [point]."""

    @property
    def value(self) -> Array:
        """Of all orders, [point]."""
        return np.asarray(self.replicates[0])

    def error(self) -> Array:
        """Returns the standard error, [point]."""
        return np.asarray(np.hypot(jackknife_error(self.replicates), self.sketch_error))

    def separated(self) -> npt.NDArray[np.bool_]:
        """Returns where the square of the quantity is separated from zero, [point]: elsewhere its logarithm means nothing."""
        with np.errstate(invalid="ignore"):
            return np.asarray(2 * order_quantile(self.replicates) * self.error() < 1)

    def with_bounds(self) -> tuple[Array, Array, Array]:
        """Returns the logarithm and its t interval, [point] each."""
        return jackknifed(self.replicates, self.sketch_error)


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Drift and spread of one cell against the update count."""

    updates: Array
    logs: dict[str, Logs]
    """By name of QUANTITIES: distances, not their squares. `total` is the root mean square distance."""
    share: Array
    """spread^2 / mean |d|^2, [1 + order, point]; a fraction."""
    sketch_share: float
    """Relative standard error that the sketch leaves in V at the last update."""


def decompose(updates: Array, distances: Array, sketches: Array) -> Decomposition:
    """Splits the mean squared distance.

    Args:
        updates: [point].
        distances: ||d_i||, [order, point], exact; at least three orders.
        sketches: count sketches of d_i, [order, point, bucket].
    """
    orders = len(distances)
    centred = sketches - sketches.mean(axis=0)
    own = np.square(centred).sum(axis=2)
    spread2 = _left_out(own.sum(axis=0), own * orders / (orders - 1), orders - 1)
    squares = np.square(distances)
    total2 = _left_out(squares.sum(axis=0), squares, orders)
    drift2 = total2 - spread2
    gram = np.einsum("itk,jtk->tij", centred, centred)
    relative = np.sqrt(2 / sketches.shape[2] * np.square(gram).sum(axis=(1, 2))) / own.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = {name: 0.5 * np.log(square) for name, square in zip(QUANTITIES, (total2, drift2, spread2), strict=True)}
        of_drift = relative * spread2[0] / (2 * drift2[0])
    errors = {"total": np.zeros(len(updates)), "drift": np.abs(of_drift), "spread": relative / 2}
    return Decomposition(updates, {name: Logs(logs[name], errors[name]) for name in QUANTITIES}, spread2 / total2, float(relative[-1]))


def jackknife_error(replicates: Array) -> Array:
    """Returns the standard error from leave-one-out values: replicates[0] is of all, the others [order, ...] lack one each."""
    left_out = replicates[1:]
    count = len(left_out)
    return np.asarray(np.sqrt((count - 1) / count * np.square(left_out - left_out.mean(axis=0)).sum(axis=0)))


def order_quantile(*replicates: Array) -> float:
    """Returns the t quantile of intervals by jackknife: of several, that of the fewest orders."""
    return t_quantile(LEVEL, min(map(len, replicates)) - 2)


def jackknifed(replicates: Array, more: Array | float = 0.0) -> tuple[Array, Array, Array]:
    """Returns the value of all orders and its t interval; `more` is a standard error that the jackknife does not see."""
    half = order_quantile(replicates) * np.hypot(jackknife_error(replicates), more)
    return np.asarray(replicates[0]), np.asarray(replicates[0] - half), np.asarray(replicates[0] + half)


def order_estimate(replicates: Array, more: float = 0.0) -> Estimate:
    """Returns the same of one number, [1 + order], as an estimate over orders."""
    value, low, high = (float(part) for part in jackknifed(replicates, more))
    return Estimate(value, low, high, len(replicates) - 1)


def _left_out(total: Array, own: Array, count: int) -> Array:
    """Returns sum / count of all, then of all but each: [1 + order, point]."""
    return np.concatenate([total[None] / count, (total - own) / (count - 1)])


# How much of the initial weights is left: cos(w_t, w_0), measured or derived from norms and distance.


@dataclass(frozen=True, eq=False)
class Cosine:
    """cos(w_t, w_0) of one run."""

    updates: Array
    values: Array
    uncertain: float
    """At most so far off at any update: 0 where it was measured; where derived, for ||w_0|| is then known within the first step only."""


def derive_cosine(distance: Curve, norm: Curve) -> Cosine | None:
    """Returns the cosine from ||w_t - w_0|| and ||w_t||; None where they have no update in common.

    w_t . w_0 = (||w_t||^2 + ||w_0||^2 - ||w_t - w_0||^2) / 2, with ||w_t|| at the first measurement, t_1, for ||w_0||, which is within
    ||w_t1 - w_0|| of it.
    """
    updates, mine, theirs = np.intersect1d(distance.updates, norm.updates, return_indices=True)
    if len(updates) == 0:
        return None
    d, w = distance.values[mine], norm.values[theirs]

    def cosine(start: float) -> Array:
        return np.asarray((w**2 + start**2 - d**2) / (2 * w * start))

    found = cosine(w[0])
    off = [np.abs(cosine(w[0] + shift) - found).max() for shift in (-d[0], d[0]) if w[0] + shift > 0]
    return Cosine(updates, found, float(max(off)))


# Clocks: what a walk may be measured against besides updates, and how far weight decay has forgotten the start. From a run's schedule.

UPDATES = "updates"
CLOCKS = (UPDATES, "sum of rates", "sum of rates squared / batch size")
"""Under square-root scaling the last one runs alike for all batch sizes: the variance that gradient noise has put in."""


@dataclass(frozen=True, eq=False)
class Clock:
    """Of one run, by number of updates done."""

    batch_size: int
    rates: Array
    """Learning rate of every update."""
    decays: Array
    """Its weight decay divided by 1 - momentum, as far as it acts through the learning rate."""

    def at(self, clock: str, updates: Array) -> Array:
        """Returns what one of CLOCKS shows after so many updates."""
        if clock == UPDATES:
            return np.asarray(updates, dtype=np.float64)
        own = self.rates if clock == "sum of rates" else np.square(self.rates) / self.batch_size
        return _sum_until(updates, own)

    def memory(self, updates: Array) -> Array:
        """Returns t / tau, the sum of learning rate * weight decay / (1 - momentum): weights decay as its negative exponential."""
        return _sum_until(updates, self.rates * self.decays)

    def memory_at(self, update: float) -> float:
        """Returns the same after so many updates, at least one."""
        return float(self.memory(np.array([max(1, update)]))[0])

    def within_memory(self, share: float) -> int:
        """Returns after how many updates t / tau is last at most `share`."""
        return int(np.searchsorted(np.cumsum(self.rates * self.decays), share * (1 + 1e-9), side="right"))

    @property
    def first_drop(self) -> int:
        """After how many updates the learning rate first falls; all of them where it never does."""
        falls = np.flatnonzero(np.diff(self.rates) < -1e-12 * self.rates[:-1])
        return int(falls[0]) + 1 if len(falls) else len(self.rates)


def clock_of(spec: RunSpec) -> Clock:
    """Returns the clock of a run, update by update: phases by fraction of the updates, times linear warmup.

    Weight decay counts for SGD and for decoupled decay (AdamW, whose momentum does not multiply it).
    """
    updates = np.arange(spec.updates)
    starts = np.array([phase.start for phase in spec.phases]) * spec.updates
    phase = np.maximum(np.searchsorted(starts, updates + 1e-9, side="right") - 1, 0)  # as the engine's own table has it
    rates = spec.learning_rate * _by_phase([item.learning_rate_factor for item in spec.phases], phase)
    warmup = spec.warmup * spec.updates
    if warmup > 0:
        rates = rates * np.minimum(1.0, spec.warmup_start + (1 - spec.warmup_start) * (updates + 1) / warmup)
    momentum = float(spec.optimizer.option("momentum", 0.0))
    momenta = _by_phase([momentum if item.momentum is None else item.momentum for item in spec.phases], phase)
    decays = _by_phase([spec.weight_decay if item.weight_decay is None else item.weight_decay for item in spec.phases], phase)
    return Clock(spec.batch_size, rates, decays / (1 - momenta))


def decayed_walk_exponent(memory: Array) -> Array:
    """Returns the local exponent of the distance of a pure walk, d ~ sqrt(t), under weight decay after t / tau = `memory`.

    Its squared distance is proportional to 1 - exp(-2 t / tau): 0.45 at 0.1, 0.41 at 0.2, 0.16 at 1; 1/2 without decay.
    """
    x = 2 * np.asarray(memory, dtype=np.float64)
    return np.asarray(np.where(x < 1e-9, 0.5, 0.5 * x / np.expm1(np.maximum(x, 1e-9))))


def _sum_until(updates: Array, values: Array) -> Array:
    return np.asarray(np.cumsum(values)[updates.astype(int) - 1])


def _by_phase(values: Sequence[float], phase: npt.NDArray[np.int64]) -> Array:
    return np.array(values, dtype=np.float64)[phase]


# Over which updates a walk is compared: after clipping has stopped, before the learning rate falls, within weight decay's memory.

FIRST = 100
"""Where a window begins at the earliest, unless training is short or the caller says otherwise."""
SHORT = 10
"""A window that would end before SHORT * FIRST updates begins at the SHORT-th part of its end instead."""
CLIPPED = 0.05
"""Clipping binds where a larger share of updates than this is clipped."""
REACH = 4
"""A cell that is clipped (or warms up) beyond a REACH-th of its clean window does not shorten the window of the others."""
MEMORY = 0.1
"""Share of the weight-decay memory beyond which decay visibly bends a walk."""


@dataclass(frozen=True)
class CellWindow:
    """The windows of one cell, and what limits them."""

    full: Window
    """Up to the first drop of the learning rate, whatever weight decay does."""
    clean_last: int
    """Last update within MEMORY of the weight-decay memory and before the drop."""
    clipped_until: int
    """Last update at which clipping bound; 0: it never did."""
    warmup_until: int
    memory: float
    """Share of the weight-decay memory that has passed at the end of the full window."""

    @property
    def unsettled(self) -> int:
        """Last update of clipping and warmup; 0: there is neither."""
        return max(self.clipped_until, self.warmup_until)

    @property
    def clean(self) -> bool:
        """Whether clipping and warmup leave at least three quarters of the updates before decay or the drop."""
        return self.unsettled * REACH <= self.clean_last

    @property
    def decayed(self) -> bool:
        """Whether the full window reaches beyond what weight decay leaves alone."""
        return self.full.last > self.clean_last


def cell_window(clock: Clock, warmup: float, shares: Sequence[Curve], first: int | None = None) -> CellWindow:
    """Returns the windows of a cell.

    Args:
        clock: of its runs, which share their schedule.
        warmup: fraction of the updates.
        shares: of each run, the share of updates so far that were clipped.
        first: where to begin, clipping or not; default: FIRST (less where training is short), clipping and warmup over.
    """
    drop = clock.first_drop
    clean = min(drop, clock.within_memory(MEMORY))
    clipped = clipped_until(shares, drop)
    warm = int(np.ceil(warmup * len(clock.rates)))
    begin = max(_earliest(drop), clipped, warm) if first is None else first
    return CellWindow(Window(begin, drop), clean, clipped, warm, clock.memory_at(drop))


def common_window(cells: Sequence[CellWindow], first: int | None = None, last: int | None = None) -> Window:
    """Returns the window that all cells have: the only one over which they are compared.

    Cells that are clipped for too long are no part of it, unless all are; they are flagged. It is empty where clipping or warmup ends
    after the first rate falls.

    Args:
        cells: at least one.
        first: given by the caller.
        last: the same; the window still ends where a rate falls or weight decay bends a walk.
    """
    end = min(cell.clean_last for cell in cells)
    end = end if last is None else min(end, last)
    if first is not None:
        return Window(first, end)
    settled = [cell.unsettled for cell in cells if cell.clean] or [cell.unsettled for cell in cells]
    return Window(max(_earliest(end), *settled), end)


def _earliest(end: int) -> int:
    """Returns where a window that ends there begins at the earliest."""
    return min(FIRST, max(1, end // SHORT))


def clipped_until(shares: Sequence[Curve], last: int) -> int:
    """Returns the last update up to which more than CLIPPED of the updates since the measurement before were clipped; 0 where none were.

    Args:
        shares: of all updates so far, as the probe `clipping` has it, one a run: the runs of a cell are counted together, for between two
            early measurements there are only a few updates.
        last: later measurements do not count.
    """
    if not shares:
        return 0
    updates = common_updates(shares)
    counts = np.mean([share.at(updates) * updates for share in shares], axis=0)
    binding = (np.diff(counts, prepend=0.0) / np.diff(updates, prepend=0.0) > CLIPPED) & (updates <= last)
    return int(updates[binding].max(initial=0))


# The walks of a cell, read from the tables: its runs with their distances, angles and sketches, and what distinguishes the runs.


@dataclass(frozen=True, eq=False)
class Walks:
    """All that is known of how the runs of one cell walked."""

    cell: Cell
    specs: Mapping[str, RunSpec] = field(repr=False)
    """Of its runs, by id; they differ in seeds only."""
    clock: Clock
    window: CellWindow
    updates: Array
    """At which every run has its distance, [point]."""
    distances: Array
    """[run, point]."""
    decomposition: Decomposition | None
    reason: str
    """Why there is no decomposition; empty where there is one."""
    cosines: tuple[Cosine, ...]
    derived: bool
    """Whether the cosines are derived rather than measured."""
    sketches: Mapping[str, Curve] = field(repr=False)
    """By run id."""

    @property
    def spec(self) -> RunSpec:
        """Of its first run."""
        return next(iter(self.specs.values()))

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.distances)

    @property
    def scope(self) -> str:
        """What the runs differ in, such as "data orders from one initialization"."""
        init, split, order = (len(set(values)) for values in zip(*map(_seeds, self.specs.values()), strict=True))
        if init == split == 1:
            return "data orders from one initialization" if order > 1 else "one run" if self.n == 1 else "runs of one order"
        return "seeds of this split" if split == 1 else "seeds and splits"

    def by_order(self) -> dict[Seeds, Curve]:
        """Returns the sketches of the runs by their seeds."""
        return {_seeds(self.specs[run_id]): sketch for run_id, sketch in self.sketches.items()}


Seeds = tuple[int, int, int]
"""Of the initial weights, the split and the order."""


def _seeds(spec: RunSpec) -> Seeds:
    return spec.init_seed, spec.split_seed, spec.order_seed


def read_walks(cell: Cell, curves: Curves, specs: Mapping[str, RunSpec], first: int | None = None) -> Walks | str:
    """Returns the walks of a cell, or the reason why there are none.

    Args:
        cell: with its runs.
        curves: curves.parquet.
        specs: by run id, from the plan.
        first: where windows begin; default: see `cell_window`.
    """
    measured = curves.of("weight_distance")
    ids = [run.run_id for run in cell.ok_runs if run.run_id in measured]
    if not ids:
        return "no ok run has measured its weight distance"
    if any(run_id not in specs for run_id in ids):
        return "the schedule of its runs is not known (the results have no plan)"
    own = {run_id: specs[run_id] for run_id in ids}
    if any(spec.adaptive_batch is not None for spec in own.values()):
        return "its batch follows the noise scale, so that its clocks are not those of the plan and differ from seed to seed"
    distances, sketches, shares, angles, norms = (
        {run_id: found[run_id] for run_id in ids if run_id in found}
        for found in (measured, curves.vectors(SKETCH), curves.of("clipped_share"), curves.of("weight_cosine"), curves.of("weight_norm"))
    )
    updates = common_updates([*distances.values()])
    clock = clock_of(own[ids[0]])
    window = cell_window(clock, own[ids[0]].warmup, [*shares.values()], first)
    reason = _undecomposed([*map(_seeds, own.values())], len(sketches))
    decomposition = None if reason else _decomposed([*distances.values()], [*sketches.values()])
    derived = len(angles) < len(ids)
    if derived:
        cosines = [derive_cosine(distances[run_id], norm) for run_id, norm in norms.items()]
    else:
        cosines = [Cosine(curve.updates, curve.values, 0.0) for curve in angles.values()]
    known = tuple(cosine for cosine in cosines if cosine is not None)
    stacked = np.stack([curve.at(updates) for curve in distances.values()])
    return Walks(cell, own, clock, window, updates, stacked, decomposition, reason, known, derived, sketches)


def _undecomposed(seeds: Sequence[Seeds], sketched: int) -> str:
    """Returns why the walks of runs with these seeds have no drift and spread, or an empty text."""
    starts = len({seed[:2] for seed in seeds})
    if starts > 1:
        return f"its runs have {starts} initializations or splits; fix init_seed (and split_seed) and let order_seed vary"
    if len(set(seeds)) < FEWEST_ORDERS:
        return f"{counted(len(seeds), 'ok run')} of one initialization; {FEWEST_ORDERS} data orders are needed"
    if sketched < len(seeds):
        return 'not every run has a displacement sketch; add probes = ["displacement_sketch"] to [run] and train anew'
    return ""


def _decomposed(distances: Sequence[Curve], sketches: Sequence[Curve]) -> Decomposition:
    updates = common_updates([*distances, *sketches])
    return decompose(updates, *(np.stack([curve.at(updates) for curve in own]) for own in (distances, sketches)))


# Twins: runs of the same order whose initial weights differ by next to nothing. How far they part is chaos, and no diffusion by data.

_MAY_DIFFER = ("initial_perturbation", "seed", "init_seed", "order_seed", "split_seed")


@dataclass(frozen=True, eq=False)
class Twin:
    """Two cells of which one started a little beside the other."""

    original: Walks
    perturbed: Walks
    updates: Array
    share: Array
    """Half the squared distance of the twins over the spread squared over orders, mean over pairs, [point]: 1 is all of it."""
    last: Estimate | None
    """The share at the last update, over pairs."""

    @property
    def perturbation(self) -> float:
        """Length of the step between their initial weights, as a share of those weights' norm."""
        return self.perturbed.spec.initial_perturbation


def twins_of(walks: Sequence[Walks]) -> Iterator[Twin]:
    """Yields the pairs of cells that differ in their initial perturbation only, both with sketches and the original with a spread."""
    for perturbed in walks:
        for original in walks if perturbed.spec.initial_perturbation else ():
            split = original.decomposition
            alike = not original.spec.initial_perturbation and _rest(original.spec) == _rest(perturbed.spec)
            if alike and split is not None and (found := _compare(original, perturbed, split)) is not None:
                yield found


def _compare(original: Walks, perturbed: Walks, decomposition: Decomposition) -> Twin | None:
    mine, theirs = original.by_order(), perturbed.by_order()
    pairs = [(mine[order], theirs[order]) for order in mine if order in theirs]
    if not pairs:
        return None
    spread = Curve(decomposition.updates, decomposition.logs["spread"].value)
    updates = common_updates([spread, *(sketch for pair in pairs for sketch in pair)])
    parted = np.stack([np.square(first.at(updates) - second.at(updates)).sum(axis=1) / 2 for first, second in pairs])
    share = parted / np.exp(2 * spread.at(updates))
    return Twin(original, perturbed, updates, share.mean(axis=0), t_interval(share[:, -1]))


def _rest(spec: RunSpec) -> dict[str, Any]:
    return {name: value for name, value in spec.model_dump().items() if name not in _MAY_DIFFER}
