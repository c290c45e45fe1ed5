"""The process that measures, one for each timing: `python -m gapbench.bench.measure REQUEST`, a JSON object; prints a JSON line.

Requests: {"do": "time", "case", "sides", "seconds", "threads", "device"}, {"do": "gate", "case", "threads", "device"} and
{"do": "peaks", "threads", "device"}.

A loop is timed apart from its first update and from a warm-up that does not count: over a window, ended by one synchronize, or, where
sides take turns, over a whole run. Beside a timing stands what the machine could do at best, and before any timing a gate: all sides
of a case get the same batches, and their first losses have to agree.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import psutil
import torch
from torch import Tensor, nn

from gapbench.bench.cases import CASES, CLASSES, Case, Precision, Task
from gapbench.bench.peers import Build, Loop, Peer
from gapbench.bench.peers.parts import TYPES, ImageDataset, initial_model
from gapbench.bench.programs import PROGRAMS, OurFeed, Ours, random_pool, workers_of
from gapbench.layers.keyed import Dropout
from gapbench.sizing import size_of
from gapbench.workloads.datasets.arrays import Pool

WARM_UP_UPDATES = {"cpu": 1, "cuda": 10}
WARM_UP_SECONDS = 0.5
"""Of updates, where these are short: a DataLoader's queue is full at first, and its first batches come for nothing."""
TURN_SECONDS = 0.05
"""Of a loop that takes turns with others: long beside a cold cache, short beside what disturbs a machine."""
DATA_PATHS = {"our feed", "loader"}
"""Programs that train nothing."""
FEWEST_UPDATES = {"cpu": 2, "cuda": 100}


@dataclass(frozen=True)
class Timing:
    """What one process found."""

    form: str
    """How an update is computed."""
    first_update_seconds: float | None
    """From nothing but data in memory to the end of the first update: building, compiling and capturing included."""
    updates: int
    examples: int
    seconds: float
    cpu_seconds: float
    """Processor time of the window, of this process and of its children, such as a DataLoader's workers."""
    event_seconds: float | None
    """The same window by CUDA's own clock."""


def time_loop(build: Callable[[], Loop], task: Task, device: torch.device, *, seconds: float) -> Timing:
    """Times a loop over a window; one of the engine's late in its run.

    Args:
        build: makes it; counts into the time to the first update.
        task: what it trains.
        device: whose work is waited for.
        seconds: length of the window.
    """
    started = time.perf_counter()
    loop = build()
    steps = loop.run()
    if isinstance(loop, Ours):
        loop.skip()
    next(steps)
    _wait(device)
    first = time.perf_counter() - started
    wanted = _updates_wanted(task, device, seconds, _warm_up(steps, device))

    processor = _processor_seconds()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if device.type == "cuda" else []  # type: ignore[no-untyped-call]
    start = time.perf_counter()
    for event in events[:1]:
        event.record()
    done = examples = 0
    while done < wanted if wanted is not None else done < FEWEST_UPDATES["cpu"] or time.perf_counter() - start < seconds:
        examples += next(steps)
        done += 1
    for event in events[1:]:
        event.record()
    _wait(device)
    elapsed = time.perf_counter() - start
    event_seconds = events[0].elapsed_time(events[1]) / 1e3 if events else None
    return Timing(loop.form, first, done, examples, elapsed, _processor_seconds() - processor, event_seconds)


def _updates_wanted(task: Task, device: torch.device, seconds: float, per_update: float) -> int | None:
    """Returns how many updates are timed; None: as many as the window holds."""
    if device.type == "cpu":
        return None
    # The host runs ahead of the device, so the number of updates is fixed before the clock starts: whole epochs where there is one,
    # for some loops do an epoch's work at its beginning.
    updates, epoch = max(FEWEST_UPDATES["cuda"], round(seconds / per_update)), task.updates_per_epoch
    return -(-updates // epoch) * epoch if updates > epoch else updates


def time_together(builds: Sequence[Callable[[], Loop]], task: Task, device: torch.device) -> list[Timing]:
    """Times whole runs of several of the engine's loops that take turns, so that what slows the machine slows all of them alike.

    A turn is some milliseconds long: two timings a minute apart differ by more than what measuring costs.

    Args:
        builds: makes each loop; counts into its time to the first update.
        task: with `updates`, which each loop makes from its first to its last.
        device: whose work is waited for.
    """
    if task.updates is None:
        raise TypeError("only whole runs take turns")
    loops, firsts, per_update = [], [], 0.0
    for build in builds:
        started = time.perf_counter()
        loop = build()
        if not isinstance(loop, Ours):
            raise TypeError("only the engine's own loops go back to their first update")
        steps = loop.run()
        next(steps)
        _wait(device)
        firsts.append(time.perf_counter() - started)
        per_update = max(per_update, _warm_up(steps, device, most=task.updates - 1))
        loop.again()
        loops.append((loop, steps))
    turn = max(1, round(TURN_SECONDS / per_update))
    seconds, processor = ([0.0] * len(loops) for _ in range(2))
    examples = [0] * len(loops)
    for number, done in enumerate(range(0, task.updates, turn)):
        # Forth and back, so that none always comes after the same one.
        for position in range(len(loops)) if number % 2 == 0 else reversed(range(len(loops))):
            start, used = time.perf_counter(), time.process_time()
            examples[position] += sum(itertools.islice(loops[position][1], min(turn, task.updates - done)))
            _wait(device)
            seconds[position] += time.perf_counter() - start
            processor[position] += time.process_time() - used
    return [
        Timing(loop.form, firsts[position], task.updates, examples[position], seconds[position], processor[position], None)
        for position, (loop, _) in enumerate(loops)
    ]


def _warm_up(steps: Iterator[int], device: torch.device, most: int | None = None) -> float:
    """Makes updates that do not count, `most` of them where a run is short; returns the seconds of one of the last."""
    wanted, start, done = WARM_UP_UPDATES[device.type], time.perf_counter(), 0
    while (done < wanted or time.perf_counter() - start < WARM_UP_SECONDS) and (most is None or done < most):
        next(steps)
        done += 1
    if most is not None or device.type == "cpu":
        return (time.perf_counter() - start) / max(1, done)
    _wait(device)
    middle = time.perf_counter()
    for _ in range(wanted):
        next(steps)
    _wait(device)
    return (time.perf_counter() - middle) / wanted


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _processor_seconds() -> float:
    """Returns the processor time so far of this process, of its children and of those that have ended."""
    own = psutil.Process()
    times = own.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in own.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return float(total)


MATRIX = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the product that the peak is measured with."""
COPY_BYTES = 1 << 30
PEAK_SECONDS = 0.5


@dataclass(frozen=True)
class Work:
    """The training of one image, forward and backward: a timing is held against what the measured peaks allow of it."""

    flops_per_example: float | None
    """None: the cost model does not know the network, or nothing is trained."""
    bytes_per_example: float | None
    """By `traffic_numbers`; on a CPU, whose caches hold a layer, None."""


def work_of(task: Task, precision: Precision, device_kind: str, *, trains: bool = True) -> Work:
    """Returns what one image costs."""
    size = size_of(task.model, task.shape, CLASSES) if trains else None
    moved = traffic_numbers(task) * TYPES[precision].itemsize if device_kind == "cuda" else None
    return Work(None if size is None else size.training_flops(1), moved)


def traffic_numbers(task: Task) -> float:
    """Returns how many numbers an image moves, by a model of fused pointwise kernels with separate batch norm statistics.

    A convolution or dense layer reads its inputs (M numbers) and writes its outputs (N) forward, and moves both again for each of its two
    gradients (the first layer has one only); a norm layer moves its activations eight times (three forward, five backward), a pooling
    its inputs and outputs twice, a residual sum its outputs four times: 3 M + 3 N - M_first + 8 N_norm + 2 (M + N)_pool + 4 N_sum.
    """
    moved: list[float] = []
    first = True

    def count(module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        nonlocal first
        into, out = inputs[0].numel(), outputs.numel()
        if isinstance(module, nn.Conv2d | nn.Linear):
            moved.append(3 * into + 3 * out - (into if first else 0))
            first = False
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            moved.append(8 * out)
        elif isinstance(module, nn.MaxPool2d):
            moved.append(2 * (into + out))
        elif hasattr(module, "shortcut"):
            moved.append(4 * out)

    model = initial_model(task).eval()
    for module in model.modules():
        module.register_forward_hook(count)
    height, width, channels = task.shape
    with torch.no_grad():
        model(torch.zeros(1, channels, height, width))
    return float(sum(moved))


def measure_peaks(device: torch.device) -> dict[str, float]:
    """Returns the best FLOP/s of a large matrix product in each precision ("flops fp32", ...) and, on CUDA, bytes/s of a copy ("bytes")."""
    precisions = ("fp32", "bf16", "fp16") if device.type == "cuda" else ("fp32", "bf16")
    torch.set_float32_matmul_precision("highest")
    peaks = {}
    side = MATRIX[device.type]
    for precision in precisions:
        left, right = (torch.randn(side, side, device=device).to(TYPES[precision]) for _ in range(2))
        peaks[f"flops {precision}"] = 2.0 * side**3 / _best_seconds(functools.partial(torch.matmul, left, right), device)
    if device.type == "cuda":
        source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        peaks["bytes"] = 2.0 * COPY_BYTES / _best_seconds(functools.partial(target.copy_, source), device)
    return peaks


def _best_seconds(work: Callable[[], object], device: torch.device) -> float:
    work()
    best, begun = float("inf"), time.perf_counter()
    while time.perf_counter() - begun < PEAK_SECONDS:
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return best


UPDATES = 3
CPU_BATCH = 64
"""On the CPU the gate works on smaller batches: what a program computes does not depend on it."""
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-2}
"""Relative difference of losses that rounding explains over three updates."""

COMPARED = {"ours", "ours singly", "reference", "released", "resident", "resident compiled", "chunked", "memory"}
"""Programs whose losses have to agree. Plain batch norm is another method; what probes cost is the same program with and without."""


@dataclass(frozen=True)
class Agreement:
    """How far a side's first losses are from ours in fp32."""

    side: str
    difference: float
    """Largest, relative."""
    tolerance: float


def gate(case: Case, device: torch.device) -> list[Agreement]:
    """Returns how far each side's first losses are from ours in fp32.

    Every program is held against ours in fp32; sides of lower precision at that precision, too, where rounding is allowed for.
    Dropout masks differ between sides, so a model with dropout is compared with dropout off.
    """
    if case.suite is not None:  # a suite and its prediction: no losses to compare
        return []
    task = case.task if device.type == "cuda" else case.task.smaller(CPU_BATCH)
    task = replace(task, updates=None)
    pool = random_pool(task)
    if any(side.program in DATA_PATHS for side in case.sides):
        return [Agreement("loader", _feed_difference(task, pool, device), TOLERANCE["fp32"])]
    batches, losses = _our_losses(Ours(Build(task, pool, "fp32", device)))
    found: list[Agreement] = []
    done = {("ours", "fp32")}
    for side in case.sides:
        if side.program not in COMPARED:
            continue
        for precision in dict.fromkeys(("fp32", _gated(side.precision, device))):
            if (side.program, precision) in done:
                continue
            done.add((side.program, precision))
            loop = PROGRAMS[side.program](Build(task, pool, precision, device, compiled=False))
            theirs = _our_losses(loop)[1] if isinstance(loop, Ours) else _peer_losses(cast("Peer", loop), batches)
            difference = float(((theirs - losses).abs() / losses.abs().clamp_min(1e-12)).max())
            name = side.name if precision == side.precision else f"{side.name} in {precision}"
            found.append(Agreement(name, difference, TOLERANCE[precision]))
    return found


def _gated(precision: Precision, device: torch.device) -> Precision:
    # Float16 without a GPU is emulated and slow; such sides exist on CUDA only.
    return "fp32" if precision == "fp16" and device.type == "cpu" else precision


def _our_losses(ours: Ours) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Returns the first batches ([replica, batch, ...] with labels) and the losses on them, float64 [updates, replicas]."""
    _without_dropout(ours.modules)
    batches, losses = [], []
    for update in range(UPDATES):
        parts = [session.feed.batch(update) for session in ours.sessions]
        batches.append((torch.cat([part.images for part in parts]).clone(), torch.cat([part.labels for part in parts]).clone()))
        states = [session.step() for session in ours.sessions]
        losses.append(torch.cat([state.batch_loss for state in states if state is not None]).double().cpu())
    return batches, torch.stack(losses)


def _peer_losses(peer: Peer, batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    _without_dropout(peer.modules)
    rows = [
        [float(peer.update(images[replica].float().contiguous(), labels[replica], replica)) for replica in range(len(images))]
        for images, labels in batches
    ]
    return torch.tensor(rows, dtype=torch.float64)


def _without_dropout(networks: list[nn.Module]) -> None:
    for module in itertools.chain.from_iterable(network.modules() for network in networks):
        if isinstance(module, Dropout):
            module.probability = 0.0
        elif isinstance(module, nn.Dropout):
            module.p = 0.0


def _feed_difference(task: Task, pool: Pool, device: torch.device) -> float:
    """Returns the largest difference of pixels between our feed and the DataLoader's data set, without augmentation (crops are random)."""
    task = replace(task, crop_padding=0, flip=False)
    indices = torch.arange(min(64, task.examples))
    images = OurFeed(Build(task, pool, "fp32", device)).feed.evaluation_batch(indices[None].to(device)).images[0].cpu()
    dataset = ImageDataset(task, pool.images, pool.labels)
    theirs = torch.stack([dataset[int(index)][0] for index in indices])
    return float((images - theirs).abs().max())


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Does what a request says and returns what was found."""
    device, threads = torch.device(request["device"]), int(request["threads"])
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    if request["do"] == "peaks":
        return {"peaks": measure_peaks(device)}
    case = CASES[request["case"]]
    if request["do"] == "gate":
        return {"agreements": [asdict(agreement) for agreement in gate(case, device)]}
    pool, clock = random_pool(case.task), _clock_mhz(device)
    sides = [case.side(name) for name in request["sides"]]
    builds = [Build(case.task, pool, side.precision, device, workers_of(side.workers, threads)) for side in sides]
    loops = [functools.partial(PROGRAMS[side.program], build) for side, build in zip(sides, builds, strict=True)]
    if case.together:
        timings = time_together(loops, case.task, device)
    else:
        timings = [time_loop(loop, case.task, device, seconds=float(request["seconds"])) for loop in loops]
    clocks = {"clock_before_mhz": clock, "clock_after_mhz": _clock_mhz(device)}
    works = [work_of(case.task, side.precision, device.type, trains=side.program not in DATA_PATHS) for side in sides]
    return {"timings": [{**asdict(timing), **asdict(work), **clocks} for timing, work in zip(timings, works, strict=True)]}


def _clock_mhz(device: torch.device) -> int | None:
    return torch.cuda.clock_rate(device) if device.type == "cuda" else None


def main(arguments: list[str]) -> None:
    """Answers one request."""
    print(json.dumps(answer(json.loads(arguments[0]))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
