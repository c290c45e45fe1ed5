"""The process that measures, one for each timing: `python -m gapbench.bench.measure REQUEST`, a JSON object; prints a JSON line.

Requests: {"do": "time", "case", "side", "seconds", "threads", "device"}, {"do": "together", "case", "sides", "threads", "device"},
{"do": "gate", "case", "threads", "device"} and {"do": "peaks", "threads", "device"}.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from gapbench.bench.cases import CASES, Case, Side
from gapbench.bench.gate import gate
from gapbench.bench.ours import random_pool
from gapbench.bench.programs import PROGRAMS, Build, workers_of
from gapbench.bench.roofline import measure_peaks, work_of
from gapbench.bench.timing import time_loop, time_together


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Does what is asked and returns what was found."""
    device, threads = torch.device(request["device"]), int(request["threads"])
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    if request["do"] == "peaks":
        return {"peaks": measure_peaks(device)}
    case = CASES[request["case"]]
    if request["do"] == "gate":
        return {"agreements": [asdict(agreement) for agreement in gate(case, device)]}
    if request["do"] == "together":
        return {"timings": _together(case, request["sides"], threads, device)}
    side = case.side(request["side"])
    if case.suite is not None:
        from gapbench.bench.prices import time_suite  # no other timing needs the rooms that plan and schedule

        timing = time_suite(case.suite, side.program, request["device"])
        return {**asdict(timing), **dict.fromkeys(("flops_per_example", "bytes_per_example", "clock_before_mhz", "clock_after_mhz"))}
    build = Build(case.task, random_pool(case.task), side.precision, device, workers_of(side.workers, threads))
    clock = _clock_mhz(device)
    timing = time_loop(lambda: PROGRAMS[side.program](build), case.task, device, seconds=float(request["seconds"]))
    return {**asdict(timing), **_work(case, side, device), "clock_before_mhz": clock, "clock_after_mhz": _clock_mhz(device)}


def _together(case: Case, names: Sequence[str], threads: int, device: torch.device) -> list[dict[str, Any]]:
    pool, clock = random_pool(case.task), _clock_mhz(device)
    sides = [case.side(name) for name in names]
    builds = [Build(case.task, pool, side.precision, device, workers_of(side.workers, threads)) for side in sides]
    loops = [functools.partial(PROGRAMS[side.program], build) for side, build in zip(sides, builds, strict=True)]
    timings = time_together(loops, case.task, device)
    clocks = {"clock_before_mhz": clock, "clock_after_mhz": _clock_mhz(device)}
    return [{**asdict(timing), **_work(case, side, device), **clocks} for side, timing in zip(sides, timings, strict=True)]


def _work(case: Case, side: Side, device: torch.device) -> dict[str, Any]:
    work = work_of(case.task, side.precision, device.type)
    counted = "feed" not in side.program and side.program != "loader"
    return {"flops_per_example": work.flops if counted else None, "bytes_per_example": work.bytes}


def _clock_mhz(device: torch.device) -> int | None:
    return torch.cuda.clock_rate(device) if device.type == "cuda" else None


def main(arguments: list[str]) -> None:
    """Answers one request."""
    print(json.dumps(answer(json.loads(arguments[0]))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
