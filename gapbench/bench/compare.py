"""Rounds of all sides of every case, the sides in turns; goes on where an earlier start ended.

Each timing is made in a fresh process; of sides that differ by a few percent at most, each round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from gapbench.bench.cases import CASES, Case, Side
from gapbench.bench.figure import bench_figure
from gapbench.bench.records import Records, group_of, this_machine
from gapbench.bench.summary import BenchReport, bench_csv, bench_markdown, summarize
from gapbench.catalog import models
from gapbench.core.errors import DeviceError, GapbenchError
from gapbench.core.machine import python_environment, usable_cores
from gapbench.core.registry import unknown_name
from gapbench.execution.devices import DeviceKind, find_gpus
from gapbench.execution.executor import MALLOC_VARIABLES, THREAD_VARIABLES
from gapbench.report.pages import write_figures, write_texts
from gapbench.store.schema import utc_now

NAME = "bench"
"""Of the files that are written."""
ROUNDS = 5
BUSY = 0.3
"""Load of other programs, in cores, above which a timing means little."""
LOOKS_SECONDS = (1.0, 2.0)
"""Length of the first look, and of the second one where the first was busy."""
PATIENCE = 2
"""Rounds of a case that other programs may disturb before the machine counts as loaded."""
DEVICES: Mapping[DeviceKind, str] = {"cpu": "cpu", "cuda": "cuda:0"}


def compare(
    names: Sequence[str] = (),
    *,
    rounds: int = ROUNDS,
    seconds: float | None = None,
    output: Path = Path("results/bench"),
    device: DeviceKind | None = None,
    anyway: bool = False,
    suite_timer: str,
    on_message: Callable[[str], None] = lambda _text: None,
) -> BenchReport:
    """Times the engine against its peers until there are `rounds` rounds of each case, and writes table and figure.

    Args:
        names: cases, see `CASES`; default: all of the device.
        rounds: how many rounds there should be, including those of earlier starts on such a machine with this source.
        seconds: length of a window; default: the case's own.
        output: where all timings are kept, and table and figure written.
        device: whose cases are timed by default: the GPU's where there is one, else the CPU's.
        anyway: time on a loaded machine, too; such timings are marked, and never counted beside others.
        suite_timer: module whose process times a case of prices, whose sides plan and train a whole suite.
        on_message: receives a line about progress.

    Raises:
        GapbenchError: an unknown case, a device that is not there, a loaded machine, a side that fails, or sides that do not compute
            the same.
        StoreError: the directory cannot be used.
    """
    chosen = _chosen(names, device)
    with Records.open(output) as records:
        sittings = (_Sitting(case, records, seconds or case.seconds, anyway, suite_timer, on_message) for case in chosen)
        try:
            if rounds:
                _time_all(sittings, rounds)
        finally:  # also after an interrupt: what was timed is worth a table
            report = summarize(records.table, unmeasurable())
            write_outputs(output, report)
    return report


def unmeasurable() -> dict[str, str]:
    """Returns why cases cannot be measured here, by name."""
    reasons = {}
    gpu = bool(find_gpus())
    for case in CASES.values():
        model = case.task.model.name
        if model not in models():
            reasons[case.name] = f'the catalog has no model "{model}" yet'
        elif case.device == "cuda" and not gpu:
            reasons[case.name] = "no CUDA device here"
    return reasons


def _chosen(names: Sequence[str], device: DeviceKind | None) -> list[Case]:
    reasons = unmeasurable()
    for name in names:
        if name not in CASES:
            raise GapbenchError(unknown_name("case", name, CASES))
        if name in reasons:
            raise DeviceError(f"case {name} cannot be measured: {reasons[name]}; `gapbench bench --list` shows what can")
    if names:
        return [CASES[name] for name in dict.fromkeys(names)]
    if device == "cuda" and not find_gpus():
        raise DeviceError("--device cuda: no CUDA device here; `gapbench doctor` says more")
    kind = device or ("cuda" if find_gpus() else "cpu")
    return [case for case in CASES.values() if case.device == kind and case.name not in reasons]


def _time_all(sittings: Iterable[_Sitting], rounds: int) -> None:
    peaks: dict[tuple[str, int], Mapping[str, float]] = {}
    for sitting in sittings:
        case = sitting.case
        if done := sitting.done:
            sitting.on_message(f"{case.name}: {done} of {rounds} rounds are there")
        if done >= rounds:
            continue
        if not sitting.anyway:
            refuse_load(load_of_others(), kept=bool(peaks))
        where = (case.device, sitting.threads)
        if where not in peaks:
            peaks[where] = sitting.ask({"do": "peaks"})["peaks"]
        sitting.time(rounds, peaks[where])


def write_outputs(folder: Path, report: BenchReport) -> None:
    """Writes bench.md, bench.csv and, where anything was measured, bench.svg and bench.png, each atomically."""
    write_texts({f"{NAME}.md": bench_markdown(report), f"{NAME}.csv": bench_csv(report)}, folder)
    if report.rows:
        write_figures({NAME: lambda: bench_figure(report)}, folder)


@dataclass
class _Sitting:
    """The rounds of one case in one start."""

    case: Case
    records: Records
    seconds: float
    anyway: bool
    suite_timer: str
    on_message: Callable[[str], None]

    def __post_init__(self) -> None:
        self.machine, self.details = this_machine(self.case.device)
        self.threads = self.case.threads or usable_cores()
        self.group = group_of(self.case, self.machine, seconds=self.seconds, threads=self.threads)

    @property
    def done(self) -> int:
        """How many rounds count already."""
        return self.records.rounds(self.group, anyway=self.anyway)

    def time(self, rounds: int, peaks: Mapping[str, float]) -> None:
        """Passes the gate and adds rounds until there are `rounds` that count."""
        difference = self.gate()
        name = self.case.name
        self.on_message(f"{name}: first losses agree to {difference:.0e}")
        disturbed = 0
        while (done := self.done) < rounds:
            found = self.round(peaks, difference)
            self.records.add_round(found)
            speeds = ", ".join(f"{item['side']} {item['examples_per_second']:,.0f}" for item in found if not item["again"])
            self.on_message(f"{name}, round {done + 1} of {rounds}, images/s: {speeds}")
            load = max(item["load_cores"] for item in found)
            if load > BUSY and not self.anyway:
                disturbed += 1
                self.on_message(f"{name}: other programs kept {load:.1f} cores busy meanwhile; the round is kept and does not count")
                if disturbed == PATIENCE:
                    refuse_load(load, kept=True)

    def gate(self) -> float:
        """Returns the largest difference of first losses. Raises GapbenchError where the sides do not compute the same."""
        worst = 0.0
        for agreement in self.ask({"do": "gate"})["agreements"]:
            difference = agreement["difference"]
            if not difference <= agreement["tolerance"]:
                raise GapbenchError(
                    f"case {self.case.name}: first losses of side {agreement['side']} and of ours differ by {difference:.1e} (relative; "
                    f"{agreement['tolerance']:g} is allowed); nothing was timed"
                )
            worst = max(worst, difference)
        return worst

    def round(self, peaks: Mapping[str, float], difference: float) -> list[dict[str, Any]]:
        """Times every side once, the first twice; the order is another one each round."""
        order = [*((side, False) for side in self.case.sides), (self.case.sides[0], True)]
        number = self.records.next_round(self.group)
        turn = number % len(order)
        order = [*order[turn:], *order[:turn]]
        if self.case.together:
            return self._timed(order, number, peaks, difference)
        return [timing for one in order for timing in self._timed([one], number, peaks, difference)]

    def _timed(
        self, sides: Sequence[tuple[Side, bool]], number: int, peaks: Mapping[str, float], difference: float
    ) -> list[dict[str, Any]]:
        """Times sides, as (side, whether it is timed again), in one process."""
        started, watch, task = utc_now(), Watch(), self.case.task
        ours = all(side.program.startswith("our") for side, _ in sides)
        found = self.ask({"do": "time", "sides": [side.name for side, _ in sides], "seconds": self.seconds}, ours=ours)["timings"]
        load = watch.others()
        return [
            {
                **asdict(self.machine),
                **self.details,
                **timing,
                "examples_per_second": timing["examples"] / timing["seconds"],
                "group": self.group,
                "case": self.case.name,
                "round": number,
                "side": side.name,
                "again": again,
                "started_at": started,
                "loaded": load > BUSY,
                "load_cores": load,
                "precision": side.precision,
                "peak_flops_per_second": peaks[f"flops {side.precision}"],
                "peak_bytes_per_second": peaks.get("bytes"),
                "gate_difference": difference,
                "threads": self.threads,
                "batch_size": task.batch_size,
                "ghost_batch_size": task.ghost_batch_size,
                "replicas": task.replicas,
            }
            for (side, again), timing in zip(sides, found, strict=True)
        ]

    def ask(self, request: Mapping[str, Any], *, ours: bool = False) -> dict[str, Any]:
        """Sends a request about this case to a fresh process."""
        whole = {"case": self.case.name, "threads": self.threads, "device": DEVICES[self.case.device], **request}
        if self.case.suite is not None and request["do"] == "time":
            whole["module"] = self.suite_timer
        environment = dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        if self.case.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        if ours:  # as the scheduler's workers run; a peer has the environment that it is started in
            environment |= {name: os.environ.get(name, value) for name, value in MALLOC_VARIABLES.items()}
        return answer_of(whole, environment)


def answer_of(request: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Runs the measuring process once. Raises GapbenchError where it fails, with its last line."""
    command = [sys.executable, "-P", "-m", request.get("module", "gapbench.bench.measure"), json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True, env={**python_environment(), **environment}, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}, no message"]
        sides = f", side {', '.join(dict.fromkeys(request['sides']))}" if "sides" in request else ""
        raise GapbenchError(f"case {request['case']}{sides}: the measuring process failed ({last[0]}); rounds that were complete are kept")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


class Watch:
    """How busy other programs keep this machine's cores from now on, while child processes of ours work."""

    def __init__(self) -> None:
        self._begun = _clocks()

    def others(self) -> float:
        """Returns the cores that other programs kept busy, on average; our own ended children are not counted.

        Windows does not tell what children took, so there it is always 0, and the look before a case has to do.
        """
        if os.name == "nt":
            return 0.0
        elapsed, busy, own = (now - begun for now, begun in zip(_clocks(), self._begun, strict=True))
        return max(0.0, (busy - own) / elapsed) if elapsed > 0.0 else 0.0


def load_of_others() -> float:
    """Returns how many cores other programs keep busy now; call it while nothing of ours runs. A blip is waited out."""
    for seconds in LOOKS_SECONDS:
        begun = _clocks()
        time.sleep(seconds)
        elapsed, busy, _ = (now - then for now, then in zip(_clocks(), begun, strict=True))
        load = busy / elapsed
        if load <= BUSY:
            break
    return load


def refuse_load(load: float, *, kept: bool) -> None:
    """Raises GapbenchError where other programs keep the machine too busy to time anything.

    Args:
        load: in cores.
        kept: whether anything was timed before.
    """
    if load > BUSY:
        again = "what was timed is kept; " if kept else ""
        raise GapbenchError(
            f"other programs keep {load:.1f} cores of this machine busy (more than {BUSY:g} makes timings worthless); {again}end them and "
            "run the same command again, or time all the same with --anyway, which marks the results"
        )


def _clocks() -> tuple[float, float, float]:
    """Returns the seconds by the clock, those that the cores we may use were busy, and those that this process and its children took."""
    cores = psutil.cpu_times(percpu=True)
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(cores))
    busy = 0.0
    for core in usable:
        if core < len(cores):  # guests are counted as users already, waiting for a disk is no work
            times = cores[core]._asdict()
            busy += sum(seconds for name, seconds in times.items() if name not in ("idle", "iowait", "guest", "guest_nice"))
    own = os.times()
    return time.perf_counter(), busy, own.user + own.system + own.children_user + own.children_system
