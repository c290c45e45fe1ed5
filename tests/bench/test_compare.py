"""Rounds: sides take turns, a gate comes first, a loaded machine is refused, a second start goes on."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from gapbench.bench import CASES, compare, records, unmeasurable
from gapbench.bench.records import read_timings
from gapbench.core.errors import DeviceError, GapbenchError
from gapbench.execution.devices import Device

module = importlib.import_module("gapbench.bench.compare")


@pytest.fixture
def bench(monkeypatch, tmp_path, answer_of_a_side) -> Callable[..., Any]:
    """Compares with processes that are not started; `bench.asked` holds what they were asked."""
    asked: list[dict[str, Any]] = []

    def answer(request, environment):
        asked.append({**request, "environment": dict(environment)})
        if request["do"] == "gate":
            return {"agreements": [{"side": "reference", "difference": run.difference, "tolerance": 1e-3}]}
        if request["do"] == "peaks":
            return {"peaks": {"flops fp32": 1e11, "flops bf16": 2e11, "flops fp16": 2e11, "bytes": 4e12}}
        case = CASES[request["case"]]
        places = [case.sides.index(case.side(side)) for side in request["sides"]]
        return {"timings": [answer_of_a_side | {"seconds": 1.0 + 0.01 * place * case.together} for place in places]}

    def run(*names, **options):
        asked.clear()
        return compare(names or ("digits-stack",), suite_timer="", output=tmp_path / "bench", on_message=run.said.append, **options)

    run.asked, run.said, run.difference, run.load, run.output = asked, [], 1e-6, 0.0, tmp_path / "bench"
    monkeypatch.setattr(module, "answer_of", answer)
    monkeypatch.setattr(module, "load_of_others", lambda: 0.0)
    monkeypatch.setattr(module.Watch, "others", lambda _watch: run.load)
    return run


def timed(asked):
    return [side for request in asked if request["do"] == "time" for side in request["sides"]]


def test_a_gate_comes_first_and_sides_take_turns(bench):
    report = bench(rounds=3)
    assert [request["do"] for request in bench.asked[:3]] == ["peaks", "gate", "time"]
    order = ["ours", "ours singly", "memory", "ours"]
    assert timed(bench.asked) == [*order, *order[1:], order[0], *order[2:], *order[:2]]
    assert [row.rounds for row in report.rows] == [3, 3]
    assert report.rows[0].ratio.estimate == 1.0
    table = read_timings(bench.output)
    assert list(table["again"]).count(True) == 3
    assert set(table["gate_difference"]) == {1e-6}
    assert (bench.output / "bench.png").exists()


def test_costs_of_measuring_are_timed_together(bench):
    report = bench("noise-stream", rounds=2)
    asked = [request for request in bench.asked if request["do"] not in ("gate", "peaks")]
    assert [sorted(request["sides"]) for request in asked] == [["default probes", "default probes", "noise scale"]] * 2
    assert asked[0]["sides"] != asked[1]["sides"]  # another order
    (row,) = report.rows
    assert row.ratio.estimate == pytest.approx(1.01)
    assert row.spread == 0.0


def test_a_second_start_goes_on_and_a_third_has_nothing_to_do(bench):
    bench(rounds=2)
    report = bench(rounds=3)
    assert timed(bench.asked) == ["memory", "ours", "ours", "ours singly"]  # the third round's order
    assert report.rows[0].rounds == 3
    bench(rounds=3)
    assert bench.asked == []
    assert bench.said[-1] == "digits-stack: 3 of 3 rounds are there"


def test_another_source_starts_its_own_rounds(bench, monkeypatch):
    bench(rounds=1)
    monkeypatch.setattr(records, "source_digest", lambda: "another")
    report = bench(rounds=1)
    assert len(timed(bench.asked)) == 4
    assert report.rows[0].rounds == 1
    assert len(read_timings(bench.output)) == 8


def test_nothing_is_timed_where_losses_differ(bench):
    bench.difference = 0.5
    with pytest.raises(GapbenchError, match=r"case digits-stack: first losses of side reference and of ours differ by 5\.0e-01"):
        bench()
    assert timed(bench.asked) == []
    bench.difference = float("nan")
    with pytest.raises(GapbenchError, match="nothing was timed"):
        bench()


def test_a_loaded_machine_is_refused_and_marked_where_one_insists(bench, monkeypatch):
    monkeypatch.setattr(module, "load_of_others", lambda: 1.7)
    with pytest.raises(GapbenchError, match=r"other programs keep 1\.7 cores of this machine busy.*--anyway"):
        bench()
    assert bench.asked == []
    bench.load = 1.7
    report = bench(rounds=1, anyway=True)
    assert report.rows[0].loaded
    assert list(read_timings(bench.output)["load_cores"]) == [1.7] * 4
    assert bench(rounds=1, anyway=True).rows[0].rounds == 1
    monkeypatch.setattr(module, "load_of_others", lambda: 0.0)
    bench.load = 0.0
    assert not bench(rounds=1).rows[0].loaded
    assert len(timed(bench.asked)) == 4  # those of the loaded machine do not count


def test_a_round_that_others_disturbed_is_kept_and_does_not_count(bench, monkeypatch):
    loads = iter([0.0, 0.9, *[0.0] * 6])
    monkeypatch.setattr(module.Watch, "others", lambda _watch: next(loads))
    report = bench(rounds=1)
    assert report.rows[0].rounds == 1
    assert not report.rows[0].loaded
    assert list(read_timings(bench.output)["load_cores"]) == [0.0, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert any("kept 0.9 cores busy meanwhile" in text for text in bench.said)


def test_a_machine_that_becomes_busy_ends_the_sitting_and_loses_nothing(bench):
    bench.load = 2.0
    with pytest.raises(GapbenchError, match="what was timed is kept"):
        bench(rounds=3)
    assert len(read_timings(bench.output)) == 4 * module.PATIENCE
    assert "**loaded machine**" in (bench.output / "bench.md").read_text()


def test_an_interrupt_keeps_the_rounds_that_are_whole(bench, monkeypatch):
    whole = module.answer_of

    def interrupted(request, environment):
        if len(timed(bench.asked)) == 6:
            raise KeyboardInterrupt
        return whole(request, environment)

    monkeypatch.setattr(module, "answer_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench(rounds=3)
    assert len(read_timings(bench.output)) == 4
    assert (bench.output / "bench.csv").exists()


def test_ours_runs_as_the_scheduler_s_workers_do_and_a_stack_on_one_thread(bench):
    bench(rounds=1)
    environments = {request["sides"][0]: request["environment"] for request in bench.asked if request["do"] == "time"}
    assert "MALLOC_TRIM_THRESHOLD_" in environments["ours singly"]
    assert "MALLOC_TRIM_THRESHOLD_" not in environments["memory"]
    assert {one["OMP_NUM_THREADS"] for one in environments.values()} == {"1"}
    assert environments["ours"]["CUDA_VISIBLE_DEVICES"] == ""


def test_no_round_only_writes_what_is_there(bench):
    report = bench(rounds=0)
    assert report.rows == ()
    assert {missing.case for missing in report.missing} == set(CASES)
    assert bench.asked == []
    assert (bench.output / "bench.md").exists()
    assert not (bench.output / "bench.png").exists()


def test_what_cannot_be_measured_is_named_with_its_reason(monkeypatch):
    monkeypatch.setattr(module, "find_gpus", tuple)
    reasons = unmeasurable()
    assert set(reasons) == {name for name, case in CASES.items() if case.device == "cuda"}
    assert reasons["resnet44-cuda"] == "no CUDA device here"
    with pytest.raises(DeviceError, match="case ghost-cuda cannot be measured: no CUDA device here"):
        compare(["ghost-cuda"], suite_timer="")
    with pytest.raises(DeviceError, match="--device cuda: no CUDA device here"):
        compare(device="cuda", suite_timer="")


def test_unknown_cases_get_the_nearest_name():
    with pytest.raises(GapbenchError, match='did you mean "resnet44"'):
        compare(["resnet4"], suite_timer="")


def test_without_names_the_cases_of_the_device_are_timed(bench, monkeypatch):
    monkeypatch.setattr(module, "find_gpus", tuple)
    bench_all = compare(output=bench.output, suite_timer="", rounds=1)
    cpu = [name for name, case in CASES.items() if case.device == "cpu"]
    assert list(dict.fromkeys(row.case for row in bench_all.rows)) == cpu
    assert list(dict.fromkeys(request["case"] for request in bench.asked)) == cpu


def test_the_cases_of_a_gpu_come_to_a_table(bench, monkeypatch):
    """With answers that no GPU gave: every case has all its rows."""
    gpus = (Device("cuda:0", "cuda", "an invented GPU", "GPU-0", 80_000.0),)
    monkeypatch.setattr(module, "find_gpus", lambda: gpus)
    monkeypatch.setattr(records, "find_gpus", lambda: gpus)
    report = compare(device="cuda", suite_timer="", rounds=2, output=bench.output)
    cuda = {name: case for name, case in CASES.items() if case.device == "cuda"}
    assert [row.case for row in report.rows] == [case.name for case in cuda.values() for _ in case.comparisons]
    assert not {missing.case for missing in report.missing} & set(cuda)
    assert {row.case for row in report.rows if row.kind == "share"} == {name for name in cuda if name.startswith("roofline")}
    (plan,) = (row for row in report.rows if row.kind == "agreement")
    assert (plan.ratio.estimate, plan.verdict) == (1.0, "reached")
    assert "| within 15 % | reached |" in (bench.output / "bench.md").read_text()


def test_a_measuring_process_that_fails_says_why():
    with pytest.raises(GapbenchError, match=r"case digits-stack, side nobody: the measuring process failed \(.*StopIteration"):
        module.answer_of({"do": "time", "case": "digits-stack", "sides": ["nobody"], "threads": 1, "device": "cpu"}, {})


@pytest.mark.parametrize("side", ["ours", "memory"])
def test_a_side_is_timed_in_a_process_of_its_own(side, answer_of_a_side):
    request = {"do": "time", "case": "digits-stack", "sides": [side], "seconds": 0.05, "threads": 1, "device": "cpu"}
    done = subprocess.run([sys.executable, "-m", "gapbench.bench.measure", json.dumps(request)], capture_output=True, text=True, check=True)
    (found,) = json.loads(done.stdout)["timings"]
    assert set(answer_of_a_side) <= set(found)
    assert found["examples"] == 16 * 8 * found["updates"]
    assert found["flops_per_example"] > 0


def clocks(monkeypatch, *readings):
    """Makes the clocks read (by the clock, busy, our own) seconds, one reading after another."""
    left = iter(readings)
    monkeypatch.setattr(module, "_clocks", lambda: next(left))
    monkeypatch.setattr(module.time, "sleep", lambda _seconds: None)


def test_a_blip_is_waited_out_and_a_load_is_not(monkeypatch):
    clocks(monkeypatch, (0.0, 0.0, 0.0), (1.0, 0.9, 0.0), (1.0, 0.9, 0.0), (3.0, 1.1, 0.0))
    assert module.load_of_others() == pytest.approx(0.1)
    clocks(monkeypatch, (0.0, 0.0, 0.0), (1.0, 0.9, 0.0), (1.0, 0.9, 0.0), (3.0, 4.1, 0.0))
    assert module.load_of_others() == pytest.approx(1.6)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell what children took")
def test_the_watch_leaves_out_what_our_own_children_took(monkeypatch):
    clocks(monkeypatch, (0.0, 10.0, 5.0), (4.0, 17.0, 11.0))
    assert module.Watch().others() == pytest.approx(0.25)


def test_the_clocks_run_forward():
    first, second = module._clocks(), module._clocks()
    assert all(later >= earlier for earlier, later in zip(first, second, strict=True))


def test_the_source_digest_is_stable_and_short():
    assert records.source_digest() == records.source_digest()
    assert len(records.source_digest()) == 12
    assert all((records._PACKAGE / name).is_dir() for name in records._SPEED_ROOMS)  # a room that moved would silently leave the digest
