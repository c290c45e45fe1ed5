"""`gapbench run`: trains what is missing, says how it went, and exits accordingly."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest


def runs_table(path: str = "results/small") -> pd.DataFrame:
    return pd.read_parquet(Path(path) / "runs.parquet")


def test_a_run_ends_with_the_arms_table_and_the_places_of_files(call, suite, figures):
    result = call("run", suite)
    assert "SB" in result.stdout
    assert "LB" in result.stdout
    assert str(Path("results/small")) in result.stdout
    assert Path("results/small/tables/arms.csv").is_file()
    assert Path("results/small/figures/weight_distance.svg").is_file()
    assert set(runs_table().outcome) == {"ok"}


def test_without_a_terminal_there_are_plain_lines(call, suite):
    result = call("run", suite)
    assert "training 4 runs" in result.stderr
    assert "[4/4]" in result.stderr
    assert "\x1b" not in result.stderr + result.stdout


def test_the_same_command_again_trains_nothing(call, suite):
    call("run", suite)
    before = {path: path.stat().st_mtime_ns for path in Path("results").rglob("outcome.json")}
    assert "training" not in call("run", suite).stderr
    assert {path: path.stat().st_mtime_ns for path in Path("results").rglob("outcome.json")} == before


def test_a_run_that_is_not_ok_makes_status_one_and_is_said(call, suite, monkeypatch):
    monkeypatch.setenv("FAKE_BEHAVIOR", json.dumps({"1": "raise"}))
    result = call("run", suite, code=1)
    assert "crashed of 4 runs; --retry trains these again" in result.stderr
    assert "the model has a hole" in result.stderr
    assert "not ok" in call("run", suite, code=1).stderr  # it stays what it is until it is retried
    monkeypatch.delenv("FAKE_BEHAVIOR")
    call("run", suite, "--retry")
    assert set(runs_table().outcome) == {"ok"}
    assert list(Path("results/small/runs").glob("*~1"))


def test_force_trains_again_and_keeps_the_old_attempt(call, suite):
    call("run", suite)
    call("run", suite, "--force", "--only", "arm=SB,seed=0")
    assert len(list(Path("results/small/runs").glob("*~1"))) == 1


def test_only_trains_what_matches_and_the_tables_know_the_rest(call, suite):
    call("run", suite, "--only", "arm=LB")
    assert runs_table().groupby("arm").outcome.agg(set).to_dict() == {"SB": {"skipped"}, "LB": {"ok"}}
    call("run", suite)
    assert set(runs_table().outcome) == {"ok"}


def test_settings_go_to_a_directory_of_their_own(call, suite):
    call("run", suite, "--set", "epochs=1", "--set", "learning_rate=0.05")
    (folder,) = Path("results").glob("small+*")
    assert set(runs_table(str(folder)).learning_rate) == {0.05}


def test_results_may_have_another_parent(call, suite):
    call("run", suite, "--results", "elsewhere", "--slots", 1, "--devices", "cpu")
    assert Path("elsewhere/small/runs.parquet").is_file()


def test_smoke_trains_three_updates_of_every_program(call, suite):
    result = call("run", suite, "--smoke")
    assert "every distinct program once" in result.stderr
    table = runs_table("results/small.smoke")
    assert list(table.planned_updates) == [3, 3]
    assert set(table.seed) == {0}
    assert "test_size" in table.dataset_options[0]


def test_fail_fast_leaves_the_rest_for_later(call, suite, monkeypatch):
    monkeypatch.setenv("FAKE_BEHAVIOR", json.dumps({"0": "raise", "1": "raise"}))
    call("run", suite, "--fail-fast", "--slots", 1, code=1)
    assert {"crashed", "skipped"} <= set(runs_table().outcome)


def test_plugins_reach_the_workers(call, suite, tmp_path):
    plugin = tmp_path / "my.py"
    plugin.write_text(
        "import gapbench.catalog.plugins as plugins\n"
        '@plugins.regime(name="half")\n'
        "def half():\n"
        '    return {"budget": {"kind": "epochs", "factor": 0.5}}\n'
    )
    suite.write_text(suite.read_text() + '[[arm]]\nlabel = "half"\nbatch_size = 512\nregime = "half"\n')
    call("run", suite, "--plugin", plugin)
    assert set(runs_table().outcome) == {"ok"}


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ('recipe = "digit"', (), 'did you mean "digits"?'),
        ("learning_rate = -1", (), "greater than 0"),
        ("ghost_batch_size = 7", (), "divide"),
        ("batch_sise = 4", (), "batch_size"),
        ("", ("--devices", "cuda:77"), "does not exist"),
        ("", ("--set", "epochs"), "key=value"),
        ("", ("--set", "epochs=1", "--set", "epochs=2"), "twice"),
        ("", ("--only", "arm=XX"), "XX"),
        ("", ("--plugin", "missing.py"), "missing.py"),
        ("", ("--slots", "0"), "slots"),
        ("", ("--set", "epochs=100000", "--max-device-hours", "0.01"), "device hours"),
    ],
)
def test_wrong_input_is_one_clear_message_and_nothing_is_written(refused, suite, change, options, words):
    if change:
        key = change.split(" = ")[0]
        lines = [line for line in suite.read_text().splitlines() if not line.startswith(key)]
        suite.write_text("\n".join(lines).replace("[run]", f"[run]\n{change}"))
    assert words in refused("run", suite, *options)


def test_missing_data_while_offline_is_known_before_anything_trains(refused, suite, tmp_path):
    suite.write_text('schema = 1\nname = "small"\n[run]\nrecipe = "hoffer2017/f1-mnist"\nbatch_size = 128\n')
    (tmp_path / "data").mkdir()
    text = refused("run", suite, "--data-dir", tmp_path / "data", "--offline")
    assert "mnist" in text
    assert str(tmp_path / "data") in text
    assert "data fetch mnist" in text


def test_results_of_a_newer_schema_are_refused(call, refused, suite):
    call("run", suite, "--only", "arm=LB,seed=0")
    path = Path("results/small/schema.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))
    for command in (("run", suite), ("report", "results/small"), ("status", "results/small"), ("export", "small", "--bundle", "b.zip")):
        assert "newer gapbench" in refused(*command)


def test_results_of_another_suite_are_refused(call, refused, suite):
    call("run", suite, "--only", "arm=LB,seed=0")
    Path("results/small").rename("results/other")
    suite.write_text(suite.read_text().replace('name = "small"', 'name = "other"'))
    assert 'suite "small", not of "other"' in refused("run", suite)


def test_a_run_ends_with_how_good_the_prediction_was(call, suite):
    text = call("run", suite).stdout
    assert "training took" in text
    assert "predicted, by a rough guess (device time 9 s of" in text  # four jobs of 2.25 s, as the fake worker says
    predicted = runs_table().set_index("run_id").predicted_seconds
    assert (predicted > 0).all()
    assert "training took" not in call("run", suite).stdout
    assert runs_table().set_index("run_id").predicted_seconds.equals(predicted)  # kept as it was made before they trained


def test_what_trained_once_is_no_guess_the_next_time(call, suite):
    call("run", suite)
    assert "rough" not in call("plan", suite, "--results", "elsewhere").stdout
    text = call("run", suite, "--results", "elsewhere").stdout
    assert "rough" not in text
    assert re.search(r"\(device time 9 s of (9|10) s\)", text)  # the first jobs of a program are foreseen to take a little longer


def test_the_prediction_of_a_suite_of_which_not_all_is_ok_is_not_judged(call, suite, monkeypatch):
    monkeypatch.setenv("FAKE_BEHAVIOR", json.dumps({"1": "raise"}))
    assert "training took" not in call("run", suite, code=1).stdout
