"""The two tables hold what the plan asks and what the run folders say, and never a number that was not measured."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pyarrow.parquet as pq
import pytest

from gapbench.core.errors import StoreError
from gapbench.core.events import Outcome
from gapbench.store import build_tables, read_tables
from gapbench.store.plan import METADATA_KEY, Prediction, StoredPlan
from gapbench.store.tables import RUN_COLUMNS
from gapbench.suite.change import Change
from gapbench.suite.runspec import Component, Phase


@pytest.fixture
def tables(results):
    def read():
        build_tables(results)
        return read_tables(results.path)

    return read


def test_every_planned_run_has_a_row_with_all_columns(results, planned, build, tables):
    runs = planned(build.run(seed=0), build.run(seed=1), build.run("LB", 0, batch_size=64, ghost_batch_size=32))
    build.finish(results.run(runs[0].run_id), runs[0], build.outcome())
    build.finish(results.run(runs[1].run_id), runs[1])
    table = tables().runs
    assert list(table.columns) == list(RUN_COLUMNS)
    assert list(table.outcome) == ["ok", "interrupted", "skipped"]
    assert list(table.ghost_batch_size.isna()) == [True, True, False]
    assert list(table.planned_updates) == [10, 10, 10]


def test_examples_are_those_of_the_batches_that_were_made(results, planned, build, tables):
    growing = {"phases": (Phase(), Phase(start=0.5, batch_size_factor=2.0)), "unramped_updates": 10, "updates": 8}  # 5 of 32, 32, 2 of 64
    ragged = {"tail": "ragged", "train_examples": 70, "reference_updates": 7}  # 32, 32, 6
    runs = planned(build.run("plain"), build.run("growing", **growing), build.run("ragged", **ragged))
    for run in runs:
        build.finish(results.run(run.run_id), run, replace(build.outcome(), update=7))
    table = tables().runs
    assert list(table.planned_updates) == [10, 8, 10]
    assert list(table.planned_examples) == [320, 320, 3 * 70 + 32]
    assert list(table.examples) == [224, 5 * 32 + 32 + 64, 2 * 70 + 32]
    assert list(table.reference_examples) == [320, 320, 2 * 70 + 32]


def test_an_ok_run_has_its_numbers_costs_and_provenance(trained, build, tables):
    run, _ = trained(build.outcome(replicas=8))
    (row,) = tables().runs.to_dict("records")
    expected = {
        "test_accuracy": 0.9,
        "train_loss": float("inf"),
        "updates": 10,
        "examples": 320,
        "train_seconds": 2.0,
        "replicas": 8,
        "threads": 1,
        "device": "cpu",
        "program": "eager",
        "torch_version": "2.11",
        "test_correct": b"\xf0\x01",
        "dataset": "digits",
        "optimizer": "sgd",
        "reference_cell": True,
        "split_drawn": True,
    }
    assert {name: row[name] for name in expected} == expected
    assert json.loads(row["model_options"]) == {"widths": [8], "norm": "batch", "bias": False}
    assert Change.model_validate_json(row["change"]) == run.labels.change


@pytest.mark.parametrize("outcome", [Outcome.DIVERGED, Outcome.CRASHED, Outcome.TIMEOUT, Outcome.OUT_OF_MEMORY])
def test_only_ok_runs_have_results_but_all_have_costs(trained, build, tables, outcome):
    trained(build.outcome(outcome))
    (row,) = tables().runs.to_dict("records")
    assert (row["outcome"], row["reason"], row["train_seconds"]) == (outcome.value, "because", 2.0)
    assert all(pd.isna(row[name]) for name in ("test_accuracy", "weight_distance", "test_correct"))


def test_curves_are_long_and_hold_finished_runs_only(results, planned, build, tables):
    runs = planned(build.run(seed=0), build.run(seed=1), build.run(seed=2))
    build.finish(results.run(runs[0].run_id), runs[0], build.outcome())
    build.finish(results.run(runs[1].run_id), runs[1], build.outcome(Outcome.DIVERGED), updates=(1,))
    build.finish(results.run(runs[2].run_id), runs[2])
    curves = tables().curves
    assert list(curves.columns) == ["run_id", "update", "examples", "metric", "layer", "value"]
    assert list(curves.run_id.value_counts()[[runs[0].run_id, runs[1].run_id]]) == [4, 2]
    assert runs[2].run_id not in set(curves.run_id)
    assert set(curves.layer) == {"", "fc"}


def test_a_run_with_two_labels_has_two_rows_and_one_curve(results, planned, build, tables):
    runs = planned(build.run("SB"), build.run("SB again"))
    assert runs[0].run_id == runs[1].run_id
    build.finish(results.run(runs[0].run_id), runs[0], build.outcome())
    read = tables()
    assert list(read.runs.cell) == ["SB", "SB again"]
    assert len(read.curves) == 4


def test_runs_that_are_no_longer_planned_stay_on_disk_and_out_of_the_tables(results, planned, build, tables):
    old, kept = planned(build.run(seed=0), build.run(seed=1))
    build.finish(results.run(old.run_id), old, build.outcome())
    planned(kept)
    assert list(tables().runs.run_id) == [kept.run_id]
    assert results.run(old.run_id).state() is Outcome.OK


def test_tables_name_the_suite_and_hold_its_report_settings(results, planned, build, tables):
    planned(build.run())
    read = tables()
    assert (read.suite, read.report) == ("small", {"arms": ["SB"]})
    for name in ("runs", "curves", "plan"):
        assert json.loads(pq.read_schema(results.path / f"{name}.parquet").metadata[METADATA_KEY])["suite"] == "small"


def test_pandas_reads_missing_integers_as_missing(results, planned, build, tables):
    planned(build.run())
    tables()
    table = pd.read_parquet(results.path / "runs.parquet")
    assert str(table.ghost_batch_size.dtype) == str(table.updates.dtype) == "Int64"
    assert table.test_accuracy.dtype == "float64"
    assert table.reference_cell.dtype == "bool"


def test_a_plan_comes_back_as_it_was(results, planned, build):
    runs = planned(build.run(seed=0), build.run("LB", 1, batch_size=64, ghost_batch_size=16))
    assert results.plan() == StoredPlan("small", tuple(runs), {"arms": ["SB"]})


def test_a_plan_keeps_what_runs_were_predicted_to_take_and_so_does_the_run_table(results, build, tables):
    runs = (build.run(seed=0), build.run(seed=1))
    predictions = {runs[0].run_id: Prediction(12.5, "calibrated")}
    results.write_plan(StoredPlan("small", runs, {}, predictions), "")
    assert results.plan().predictions == predictions
    for table in (tables().runs, pd.read_parquet(results.plan_path)):
        assert table.predicted_seconds.fillna(-1.0).tolist() == [12.5, -1.0]


def test_a_plan_from_before_predictions_and_records_were_kept_is_read(results, planned, build):
    runs = planned(build.run(seed=0))
    table = pq.read_table(results.plan_path).drop_columns(["predicted_seconds", "prediction_basis"])
    labels = json.loads(table["labels"][0].as_py())
    del labels["change"], labels["words"]
    table = table.set_column(table.column_names.index("labels"), "labels", [[json.dumps(labels)]])
    pq.write_table(table, results.plan_path)
    plan = results.plan()
    assert (plan.runs[0].spec, plan.predictions) == (runs[0].spec, {})
    assert plan.runs[0].labels == runs[0].labels.model_copy(update={"words": {"SB": "SB"}})


def test_without_a_plan_there_is_an_error_that_says_what_to_do(results):
    with pytest.raises(StoreError, match="nothing was planned"):
        build_tables(results)


def test_a_damaged_table_says_how_to_make_it_again(results, planned, build, tables):
    planned(build.run())
    tables()
    (results.path / "curves.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="gapbench report"):
        read_tables(results.path)


def test_a_table_of_a_newer_schema_is_refused(results, planned, build, tables):
    planned(build.run())
    tables()
    path = results.path / "runs.parquet"
    table = pq.read_table(path)
    newer = json.dumps({"schema": 99, "suite": "small", "report": {}}).encode()
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: newer}), path)
    with pytest.raises(StoreError, match="newer gapbench"):
        read_tables(results.path)


def test_a_finished_run_in_the_wrong_folder_is_an_error(trained, build, tables):
    _, folder = trained()
    (folder.path / "spec.json").write_text(build.spec(seed=5).model_dump_json())
    with pytest.raises(StoreError, match="does not hold run"):
        tables()


def test_runs_from_before_an_option_say_the_same_as_later_ones(results, planned, build, tables):
    """Else a directory of both would compare neither with the other."""
    models = [Component(name="f1", options=options) for options in ({}, {"norm": "batch"}, {"norm": "none"})]
    planned(*(build.run(str(number), model=model) for number, model in enumerate(models)))
    assert list(tables().runs.model_options) == ['{"norm":"batch"}', '{"norm":"batch"}', '{"norm":"none"}']
