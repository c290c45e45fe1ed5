"""Times a loop: the first update apart, a warm-up that does not count, then a window or a whole run, ended by one synchronize."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psutil
import torch

from gapbench.bench.ours import Ours
from gapbench.bench.programs import Loop
from gapbench.bench.task import Task

WARM_UP_UPDATES = {"cpu": 1, "cuda": 10}
WARM_UP_SECONDS = 0.5
"""Of updates, where these are short: a DataLoader's queue is full at first, and its first batches come for nothing."""
TURN_SECONDS = 0.05
"""Of a loop that takes turns with others: long beside a cold cache, short beside what disturbs a machine."""
FEWEST_UPDATES = {"cpu": 2, "cuda": 100}


@dataclass(frozen=True)
class Timing:
    """What one process found."""

    form: str
    """How an update is computed."""
    first_update_seconds: float | None
    """From nothing but data in memory to the end of the first update: building, compiling and capturing included; None: of a suite."""
    updates: int
    examples: int
    seconds: float
    cpu_seconds: float
    """Processor time of the window, of this process and of its DataLoader workers."""
    event_seconds: float | None
    """The same window by CUDA's own clock."""

    @property
    def examples_per_second(self) -> float:
        """Speed."""
        return self.examples / self.seconds


def time_loop(build: Callable[[], Loop], task: Task, device: torch.device, *, seconds: float) -> Timing:
    """Times a loop.

    Args:
        build: makes it; counts into the time to the first update.
        task: a task with `updates` is timed over a whole run, from its first update to its last.
        device: whose work is waited for.
        seconds: length of a window.
    """
    started = time.perf_counter()
    loop = build()
    steps = loop.run()
    if isinstance(loop, Ours) and task.updates is None:
        loop.skip()
    next(steps)
    _wait(device)
    first = time.perf_counter() - started

    per_update = _warm_up(steps, device, most=None if task.updates is None else task.updates - 1)
    updates = task.updates
    if updates is not None:
        if not isinstance(loop, Ours):
            raise TypeError("only the engine's own loops go back to their first update")
        loop.again()
    elif device.type == "cuda":
        # The host runs ahead of the device, so the number of updates is fixed before the clock starts: whole epochs where there is one,
        # for some loops do an epoch's work at its beginning.
        updates = max(FEWEST_UPDATES["cuda"], round(seconds / per_update))
        epoch = task.updates_per_epoch
        updates = -(-updates // epoch) * epoch if updates > epoch else updates

    processor = _processor_seconds()
    events = (
        [
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(2)
        ]
        if device.type == "cuda"
        else []
    )
    start = time.perf_counter()
    for event in events[:1]:
        event.record()
    done = examples = 0
    while done < updates if updates is not None else done < FEWEST_UPDATES["cpu"] or time.perf_counter() - start < seconds:
        examples += next(steps)
        done += 1
    for event in events[1:]:
        event.record()
    _wait(device)
    elapsed = time.perf_counter() - start
    return Timing(
        form=loop.form,
        first_update_seconds=first,
        updates=done,
        examples=examples,
        seconds=elapsed,
        cpu_seconds=_processor_seconds() - processor,
        event_seconds=events[0].elapsed_time(events[1]) / 1e3 if events else None,
    )


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
    done = 0
    for number in itertools.count():
        now = min(turn, task.updates - done)
        if now == 0:
            break
        # Forth and back, so that none always comes after the same one.
        for position in range(len(loops)) if number % 2 == 0 else reversed(range(len(loops))):
            start, used = time.perf_counter(), time.process_time()
            for _ in range(now):
                examples[position] += next(loops[position][1])
            _wait(device)
            seconds[position] += time.perf_counter() - start
            processor[position] += time.process_time() - used
        done += now
    return [
        Timing(loop.form, firsts[position], done, examples[position], seconds[position], processor[position], None)
        for position, (loop, _) in enumerate(loops)
    ]


def _warm_up(steps: Iterator[int], device: torch.device, most: int | None) -> float:
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
    """Returns the processor time so far of this process and its children."""
    process = psutil.Process()
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total
