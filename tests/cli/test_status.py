"""`gapbench status`: for people, for scripts, and over again in a terminal."""

from __future__ import annotations

import json
from pathlib import Path

from gapbench.store import ResultsDirectory, SessionJob, write_session
from tests.small import make_session


def test_status_of_a_part_and_of_all(call, suite):
    call("run", suite, "--only", "arm=SB")
    text = call("status").stdout
    assert "small: 2 of 4 runs have ended, nothing is training" in text
    assert "2 runs left" in text
    assert "to go on: gapbench" in text
    with ResultsDirectory.open_existing(Path("results/small")).locked():
        assert "tables and figures are being made" in call("status", "small").stdout
    call("run", suite)
    assert "all 4 runs have ended" in call("status").stdout


def test_a_failure_is_no_failure_of_status(call, suite, monkeypatch):
    monkeypatch.setenv("FAKE_BEHAVIOR", json.dumps({"1": "raise"}))
    call("run", suite, code=1)
    text = call("status").stdout
    assert "SB seed 1: crashed: ValueError: the model has a hole" in text
    assert str(Path("results/small/runs")) in text
    assert "--retry trains these again" in text


def test_json_is_for_scripts(call, suite):
    call("run", suite, "--only", "arm=SB")
    content = json.loads(call("status", "small", "--json").stdout)
    assert (content["state"], content["runs"], content["done"], content["waiting"]) == ("stopped", 4, 2, 2)


def test_json_says_of_each_run_and_cell_what_trains_and_what_waits(call, suite):
    call("run", suite, "--only", "arm=SB")
    results = ResultsDirectory.open_existing(Path("results/small"))
    (trains, _) = [run.run_id for run in results.plan().runs if run.labels.cell == "LB"]
    job = {"title": "LB", "run_ids": (trains,), "update": 2, "updates": 9, "test_accuracy": 0.5, "seconds_left": 1.0}
    with results.locked():
        write_session(results.path, make_session(jobs=(SessionJob(**job),), host="elsewhere"))
        content = json.loads(call("status", "small", "--json").stdout)
    assert (content["state"], content["training"], content["waiting"]) == ("training", 1, 1)
    states = {(run["cell"], run["seed"]): run["state"] for run in content["run_list"]}
    assert sorted(state for (cell, _), state in states.items() if cell == "LB") == ["training", "waiting"]
    assert {state for (cell, _), state in states.items() if cell == "SB"} == {"ok"}
    (cell,) = [cell for cell in content["cells"] if cell["cell"] == "LB"]
    assert (cell["training"], cell["waiting"], cell["done"]) == (1, 1, 0)


def test_watching_needs_a_terminal_and_something_to_watch(call, refused, suite):
    call("run", suite, "--only", "arm=SB")
    assert "nothing is training" in call("status", "--watch").stdout
    with ResultsDirectory.open_existing(Path("results/small")).locked():
        assert "--json" in refused("status", "--watch")
    assert "one of them" in refused("status", "--watch", "--json")
