"""Rounds of all sides of every case, the sides in turns; goes on where an earlier start ended.

Each timing is made in a fresh process; of sides that differ by a few percent at most, each round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gapbench
from gapbench.bench import machine
from gapbench.bench.cases import CASES, Case, Side
from gapbench.bench.figure import bench_figure
from gapbench.bench.records import Records, group_of
from gapbench.bench.summary import BenchReport, bench_csv, bench_markdown, summarize
from gapbench.catalog import models
from gapbench.core.errors import DeviceError, GapbenchError
from gapbench.core.machine import usable_cores
from gapbench.core.registry import unknown_name
from gapbench.execution.devices import DeviceKind, find_gpus
from gapbench.execution.executor import MALLOC_VARIABLES, THREAD_VARIABLES
from gapbench.report.style import house_style, render
from gapbench.store.files import write_bytes, write_text
from gapbench.store.schema import utc_now

# Writes the bench's table and figure, both functions of the timings.

NAME = "bench"


def write_outputs(folder: Path, report: BenchReport) -> None:
    """Writes bench.md, bench.csv and, where anything was measured, bench.svg and bench.png, each atomically."""
    write_text(folder / f"{NAME}.md", bench_markdown(report))
    write_text(folder / f"{NAME}.csv", bench_csv(report))
    if report.rows:
        with house_style():
            figure = bench_figure(report)
            for kind in ("svg", "png"):
                write_bytes(folder / f"{NAME}.{kind}", render(figure, kind))


ROUNDS = 5
PATIENCE = 2
"""Rounds of a case that other programs may disturb before the machine counts as loaded."""
DEVICES: Mapping[DeviceKind, str] = {"cpu": "cpu", "cuda": "cuda:0"}

Ask = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Sends a request to a fresh process and returns its answer."""


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
        rounds: how many rounds there are to be, those of earlier starts on such a machine with this source included.
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
        try:
            if rounds:
                _time_all(chosen, records, rounds, seconds, anyway, suite_timer, on_message)
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


def _time_all(
    cases: Sequence[Case],
    records: Records,
    rounds: int,
    seconds: float | None,
    anyway: bool,
    suite_timer: str,
    on_message: Callable[[str], None],
) -> None:
    peaks: dict[tuple[str, int], Mapping[str, float]] = {}
    for case in cases:
        sitting = _Sitting(case, records, seconds or case.seconds, suite_timer)
        done = records.rounds(sitting.group, anyway=anyway)
        if done:
            on_message(f"{case.name}: {done} of {rounds} rounds are there")
        if done >= rounds:
            continue
        if not anyway:
            machine.refuse_load(machine.load_of_others(), kept=bool(peaks))
        where = (case.device, sitting.threads)
        if where not in peaks:
            peaks[where] = sitting.ask({"do": "peaks"})["peaks"]
        difference = sitting.gate()
        on_message(f"{case.name}: first losses agree to {difference:.0e}")
        disturbed = 0
        while (done := records.rounds(sitting.group, anyway=anyway)) < rounds:
            found = sitting.round(peaks[where], difference)
            records.add_round(found)
            speeds = ", ".join(f"{item['side']} {item['examples_per_second']:,.0f}" for item in found if not item["again"])
            on_message(f"{case.name}, round {done + 1} of {rounds}, images/s: {speeds}")
            load = max(item["load_cores"] for item in found)
            if load > machine.BUSY and not anyway:
                disturbed += 1
                on_message(f"{case.name}: other programs kept {load:.1f} cores busy meanwhile; the round is kept and does not count")
                if disturbed == PATIENCE:
                    machine.refuse_load(load, kept=True)


@dataclass
class _Sitting:
    """The rounds of one case in one start."""

    case: Case
    records: Records
    seconds: float
    suite_timer: str

    def __post_init__(self) -> None:
        self.machine = machine.this_machine(self.case.device)
        self.details = machine.details(self.case.device)
        self.threads = self.case.threads or usable_cores()
        self.group = group_of(self.case, self.machine, seconds=self.seconds, threads=self.threads)

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
        if not self.case.together:
            return [self._timed([(side, again)], number, peaks, difference)[0] for side, again in order]
        return self._timed(order, number, peaks, difference)

    def _timed(
        self, sides: Sequence[tuple[Side, bool]], number: int, peaks: Mapping[str, float], difference: float
    ) -> list[dict[str, Any]]:
        """Times sides, as (side, whether it is timed again), in one process."""
        started, watch = utc_now(), machine.Watch()
        ours = all(side.program.startswith("our") for side, _ in sides)
        if self.case.together:
            found = self.ask({"do": "together", "sides": [side.name for side, _ in sides]}, ours=ours)["timings"]
        else:
            found = [self.ask({"do": "time", "side": side.name, "seconds": self.seconds}, ours=ours) for side, _ in sides]
        load = watch.others()
        task = self.case.task
        return [
            {
                **self.machine.columns,
                **self.details,
                **timing,
                "examples_per_second": timing["examples"] / timing["seconds"],
                "group": self.group,
                "case": self.case.name,
                "round": number,
                "side": side.name,
                "again": again,
                "started_at": started,
                "loaded": load > machine.BUSY,
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
    command = [sys.executable, "-m", request.get("module", "gapbench.bench.measure"), json.dumps(request)]
    root = str(Path(gapbench.__file__).parent.parent)  # the same gapbench as here, also where it is not installed
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment, "PYTHONPATH": path}, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}, no message"]
        side = f", side {request['side']}" if "side" in request else ""
        raise GapbenchError(f"case {request['case']}{side}: the measuring process failed ({last[0]}); rounds that were complete are kept")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
