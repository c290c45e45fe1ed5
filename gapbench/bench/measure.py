"""The process that measures, one for each timing: `python -m gapbench.bench.measure REQUEST`, a JSON object; prints a JSON line.

Requests: {"do": "time", "case", "side", "seconds", "threads", "device"}, {"do": "gate", "case", "threads", "device"} and
{"do": "peaks", "threads", "device"}.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import torch

from gapbench.bench.cases import CASES
from gapbench.bench.gate import gate
from gapbench.bench.ours import random_pool
from gapbench.bench.programs import PROGRAMS, Build, workers_of
from gapbench.bench.roofline import measure_peaks, work_of
from gapbench.bench.timing import time_loop


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
    side = case.side(request["side"])
    if case.suite is not None:
        from gapbench.bench.prices import time_suite  # no other timing needs the rooms that plan and schedule

        timing = time_suite(case.suite, side.program, request["device"])
        return {**asdict(timing), **dict.fromkeys(("flops_per_example", "bytes_per_example", "clock_before_mhz", "clock_after_mhz"))}
    build = Build(case.task, random_pool(case.task), side.precision, device, workers_of(side.workers, threads))
    clock = _clock_mhz(device)
    timing = time_loop(lambda: PROGRAMS[side.program](build), case.task, device, seconds=float(request["seconds"]))
    work = work_of(case.task, side.precision, device.type)
    return {
        **asdict(timing),
        "flops_per_example": None if "feed" in side.program or side.program == "loader" else work.flops,
        "bytes_per_example": work.bytes,
        "clock_before_mhz": clock,
        "clock_after_mhz": _clock_mhz(device),
    }


def _clock_mhz(device: torch.device) -> int | None:
    return torch.cuda.clock_rate(device) if device.type == "cuda" else None


def main(arguments: list[str]) -> None:
    """Answers one request."""
    print(json.dumps(answer(json.loads(arguments[0]))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
