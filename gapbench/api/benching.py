"""How fast the engine is, and how good prices are: the bench's verb, and the timing of a whole suite, which takes the other verbs."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench.api.planning import plan
from gapbench.api.running import calibrate, run
from gapbench.core.errors import GapbenchError
from gapbench.suite import load_suite

if TYPE_CHECKING:
    from gapbench.bench import BenchReport, Case
    from gapbench.execution.devices import DeviceKind


def bench(
    cases: Sequence[str] = (),
    *,
    rounds: int | None = None,
    seconds: float | None = None,
    output: str | Path = "results/bench",
    device: DeviceKind | None = None,
    anyway: bool = False,
    say: Callable[[str], None] = lambda _text: None,
) -> BenchReport:
    """Times the engine against its peers until there are `rounds` rounds of each case, and writes table and figure.

    Args:
        cases: names, see `bench_cases`; default: all of the device.
        rounds: how many rounds there should be, earlier ones included; default: 5.
        seconds: length of a timing; default: the case's own.
        output: where all timings are kept, and table and figure written.
        device: "cpu" or "cuda"; default: cuda where there is a GPU.
        anyway: time on a loaded machine, too; such timings are marked, and never counted beside others.
        say: receives a line about each step.

    Raises:
        GapbenchError: an unknown case, a device that is not there, a loaded machine, a side that fails, or sides that do not compute
            the same.
        StoreError: the directory cannot be used.
    """
    from gapbench.bench import ROUNDS, compare

    return compare(
        cases,
        rounds=ROUNDS if rounds is None else rounds,
        seconds=seconds,
        output=Path(output),
        device=device,
        anyway=anyway,
        suite_timer=__name__,
        on_message=say,
    )


def bench_cases() -> dict[str, tuple[Case, str]]:
    """Returns what can be timed by name, and why not here; empty: it can."""
    from gapbench.bench import CASES, unmeasurable

    reasons = unmeasurable()
    return {name: (case, reasons.get(name, "")) for name, case in CASES.items()}


def time_suite(suite: str, program: str, device: str) -> dict[str, Any]:
    """Returns the seconds by the clock, from the start of the first worker to the end of the last: those it took, or those predicted.

    Both know nothing of this machine from before: the cache is a fresh one, which only the prediction fills, by calibrating.

    Args:
        suite: name of a shipped suite, or path of one, of data that need no download.
        program: TRAINED or PREDICTED, see `gapbench.bench.cases`.
        device: "cpu" or "cuda:0".

    Raises:
        GapbenchError: a run is not ok, or something of the suite cannot be predicted.
    """
    from gapbench.bench.cases import TRAINED

    specs = {planned.run_id: planned.spec for planned in load_suite(suite).runs}.values()
    before = _processor_seconds()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GAPBENCH_CACHE"] = str(Path(folder) / "cache")
        results = Path(folder) / "results"
        if program == TRAINED:
            done = run(suite, devices=device, results=results)
            if done.took is None:
                raise GapbenchError(f"suite {suite}: not every run is ok, so its time says nothing: {done!r}")
            seconds, form = done.took.seconds, "trained"
        else:
            calibrate(suite, devices=device, results=results)
            planned = plan(suite, devices=device, results=results)
            if planned.unknown:
                raise GapbenchError(f"suite {suite}: the time of {planned.unknown} jobs cannot be predicted")
            seconds, form = planned.wall_seconds, "calibrated"
    return {
        "form": form,
        "first_update_seconds": None,
        "updates": sum(spec.updates for spec in specs),
        "examples": sum(spec.examples for spec in specs),
        "seconds": seconds,
        "cpu_seconds": _processor_seconds() - before,
        "event_seconds": None,
        **dict.fromkeys(("flops_per_example", "bytes_per_example", "clock_before_mhz", "clock_after_mhz")),
    }


def _processor_seconds() -> float:
    """Returns the processor time so far of this process and its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main(arguments: list[str]) -> None:
    """Answers one request of the bench: times a suite as one of its sides."""
    from gapbench.bench import CASES

    request: Mapping[str, Any] = json.loads(arguments[0])
    case = CASES[request["case"]]
    (side,) = request["sides"]
    timing = time_suite(str(case.suite), case.side(side).program, request["device"])
    print(json.dumps({"timings": [timing]}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
