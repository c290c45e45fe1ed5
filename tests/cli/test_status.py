"""`gapbench status`: for people, for scripts, and over again in a terminal."""

from __future__ import annotations

import json
from pathlib import Path

from gapbench.store import ResultsDirectory


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


def test_watching_needs_a_terminal_and_something_to_watch(call, refused, suite):
    call("run", suite, "--only", "arm=SB")
    assert "nothing is training" in call("status", "--watch").stdout
    with ResultsDirectory.open_existing(Path("results/small")).locked():
        assert "--json" in refused("status", "--watch")
    assert "one of them" in refused("status", "--watch", "--json")
