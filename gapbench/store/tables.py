"""The two tidy tables: runs.parquet and curves.parquet, made from the plan and the run folders, replaced as a whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from gapbench import catalog
from gapbench.catalog import ComponentEntry
from gapbench.core.errors import StoreError
from gapbench.core.events import FINAL, Outcome
from gapbench.core.machine import without_folders
from gapbench.store.directory import ResultsDirectory
from gapbench.store.plan import METADATA_KEY, Prediction, file_names, read_plan, shared_plan, with_names, write_table
from gapbench.store.run_directory import RunDirectory, read_events
from gapbench.store.schema import refuse_newer
from gapbench.suite.runspec import Component, PlannedRun, RunSpec, canonical_json, values_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Kind = Literal["text", "flag", "integer", "number", "bits"]


@dataclass(frozen=True)
class Column:
    """A column of runs.parquet."""

    kind: Kind
    source: Literal["result", "cost", "session", ""] = ""
    """result: only a run with outcome ok has it; cost: what a run has taken, however it ended; session: where it trained last."""


RUN_COLUMNS: dict[str, Column] = {
    "run_id": Column("text"),
    "suite": Column("text"),
    "cell": Column("text"),
    "cell_order": Column("integer"),
    "arm": Column("text"),
    "reference_cell": Column("flag"),
    "reference": Column("text"),
    "alternative_to": Column("text"),
    "axes": Column("text"),
    "words": Column("text"),
    "recipe": Column("text"),
    "preset": Column("text"),
    "dataset": Column("text"),
    "dataset_options": Column("text"),
    "model": Column("text"),
    "model_options": Column("text"),
    "batch_size": Column("integer"),
    "regime": Column("text"),
    "change": Column("text"),
    "adaptive_batch": Column("text"),
    "values": Column("text"),
    "ghost_batch_size": Column("integer"),
    "optimizer": Column("text"),
    "precision": Column("text"),
    "learning_rate": Column("number"),
    "learning_rate_rule": Column("text"),
    "momentum_reset": Column("text"),
    "extrapolation": Column("text"),
    "budget": Column("text"),
    "seed": Column("integer"),
    "init_seed": Column("integer"),
    "order_seed": Column("integer"),
    "split_seed": Column("integer"),
    "split_drawn": Column("flag"),
    "outcome": Column("text"),
    "reason": Column("text"),
    "test_accuracy": Column("number", "result"),
    "test_loss": Column("number", "result"),
    "train_accuracy": Column("number", "result"),
    "train_loss": Column("number", "result"),
    "validation_accuracy": Column("number", "result"),
    "validation_loss": Column("number", "result"),
    "updates": Column("integer"),
    "planned_updates": Column("integer"),
    "planned_examples": Column("integer"),
    "examples": Column("integer"),
    "gradients": Column("integer"),
    "reference_batch_size": Column("integer"),
    "reference_updates": Column("integer"),
    "reference_examples": Column("integer"),
    "train_examples": Column("integer"),
    "weight_distance": Column("number", "result"),
    "clipped_share": Column("number", "result"),
    "clipped_share_late": Column("number", "result"),
    "train_seconds": Column("number", "cost"),
    "evaluation_seconds": Column("number", "cost"),
    "other_seconds": Column("number", "cost"),
    "predicted_seconds": Column("number"),
    "peak_memory_mib": Column("number", "cost"),
    "replicas": Column("integer"),
    "threads": Column("integer", "session"),
    "slots": Column("integer", "session"),
    "device": Column("text", "session"),
    "device_name": Column("text", "session"),
    "program": Column("text", "cost"),
    "program_refused": Column("text", "cost"),
    "ghost_norm_form": Column("text", "cost"),
    "micro_batch_size": Column("integer", "cost"),
    "gapbench_version": Column("text", "session"),
    "torch_version": Column("text", "session"),
    "python_version": Column("text", "session"),
    "git_commit": Column("text", "session"),
    "git_dirty": Column("flag", "session"),
    "plugins": Column("text", "session"),
    "started_at": Column("text"),
    "test_correct": Column("bits"),
}
"""Columns of runs.parquet, in order. Accuracies are fractions, losses in nats, missing values null (never imputed)."""

CURVE_COLUMNS: dict[str, Kind] = {
    "run_id": "text",
    "update": "integer",
    "examples": "integer",
    "metric": "text",
    "layer": "text",
    "value": "number",
}
"""Columns of curves.parquet, in order."""

LONG_COLUMNS = ("test_correct", "values")
"""Left out of CSV files and pages."""

MESSAGES = ("reason", "program_refused")
"""Texts that may quote errors, and so paths."""

TEST_COLUMNS = frozenset({"test_accuracy", "test_loss", "test_correct"})
"""Left out of the tables of trials, which leave the test set alone."""


def columns_from(source: str) -> list[str]:
    """Returns the names of the columns of runs.parquet that come from one source."""
    return [name for name, column in RUN_COLUMNS.items() if column.source == source]


@dataclass(frozen=True)
class Tables:
    """Both tables of a suite, as read from disk."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    suite: str
    report: Mapping[str, Any]
    """Report settings, as plain JSON."""

    def __repr__(self) -> str:
        return f"Tables({self.suite!r}: runs {self.runs.shape}, curves {self.curves.shape})"


def build_tables(results: ResultsDirectory) -> Mapping[str, str]:
    """Writes runs.parquet and curves.parquet from plan.parquet and `runs/`. Runs that are no longer planned stay out.

    Returns the runs that count as interrupted because a file of theirs is damaged, with which one.

    Raises:
        StoreError: there is no plan, a run folder holds another run than its name says, or a table cannot be written.
    """
    import pyarrow as pa

    plan = results.plan()
    shown = shared_plan(plan)
    metadata = {METADATA_KEY: shown.metadata()}
    specs = {run.run_id: run.spec for run in plan.runs}
    damaged = results.damaged(specs)
    read = {run_id: _read(results.run(run_id), spec, damaged.get(run_id)) for run_id, spec in specs.items()}
    rows = [_row(run, read[run.run_id], plan.predictions.get(run.run_id)) for run in shown.runs]
    untested = bool(plan.runs) and not any(run.spec.test_evaluation for run in plan.runs)
    columns = {name: column.kind for name, column in RUN_COLUMNS.items() if not (untested and name in TEST_COLUMNS)}
    runs = pa.table({name: pa.array([row[name] for row in rows], arrow_type(kind)) for name, kind in columns.items()}, metadata=metadata)
    # A run exists only when its outcome does.
    curves = _curves(results, [run_id for run_id in plan.run_ids if read[run_id]["outcome"] in FINAL], metadata)
    write_table(results.curves_table_path, curves)
    write_table(results.runs_table_path, runs.replace_schema_metadata({**metadata, **pandas_metadata(runs)}))
    return damaged


def copy_to_read(results: ResultsDirectory, parent: Path) -> ResultsDirectory:
    """Returns a copy of a results directory, in a folder of its name below `parent`, with tables that hold what its runs hold now.

    The folders of its runs are not copied: the copy reads those of the original.

    Raises:
        StoreError: something cannot be read or written.
    """
    copy = ResultsDirectory(parent / results.path.name, results.suite)
    copy.path.mkdir()
    for file in [file for file in results.path.iterdir() if file.is_file() and not file.name.startswith(".")]:
        shutil.copyfile(file, copy.path / file.name)
    copy.runs_path = results.runs_path
    if not results.is_bundle:
        build_tables(copy)
    return copy


def read_tables(folder: Path) -> Tables:
    """Reads both tables of a results directory (or of an unpacked bundle).

    Raises:
        StoreError: a table is missing, damaged or of a newer schema.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = {}
    for name in ("runs", "curves"):
        path = folder / f"{name}.parquet"
        try:
            tables[name] = pq.read_table(path)
        except FileNotFoundError:
            raise StoreError(f"{path}: is missing; `gapbench report {folder}` makes it from the folder runs/") from None
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{path}: cannot be read ({error}); `gapbench report {folder}` makes it again from runs/") from error
    try:
        metadata = json.loads(tables["runs"].schema.metadata[METADATA_KEY])
    except (TypeError, KeyError, ValueError) as error:
        raise StoreError(f"{folder / 'runs.parquet'}: is no table of gapbench (its metadata are missing)") from error
    refuse_newer(int(metadata["schema"]), str(folder / "runs.parquet"))
    runs = _with_file_names(to_pandas(tables["runs"]))
    if "values" not in runs and (folder / "plan.parquet").is_file():  # tables of earlier versions
        values = {run.run_id: canonical_json(values_of(run.spec)) for run in read_plan(folder / "plan.parquet").runs}
        runs["values"] = runs["run_id"].map(values)
    return Tables(runs, to_pandas(tables["curves"]), metadata["suite"], metadata["report"])


def _with_file_names(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns the runs with names of users' own files; tables of earlier versions hold paths."""
    names = file_names(json.loads(options) for options in runs.get("dataset_options", ()) if options)
    texts = [
        column for column in ("cell", "arm", "reference", "alternative_to", "axes", "words", "dataset_options", "values") if column in runs
    ]
    named = {column: runs[column].map(lambda text: with_names(text, names), na_action="ignore") for column in texts}
    return runs.assign(**named) if names else runs


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Returns a table as pandas: integers as Int64 and flags as bool, so that a missing integer is NA and not a float."""
    import pandas as pd
    import pyarrow as pa

    integers = {pa.int64(): pd.Int64Dtype()}
    return cast("pd.DataFrame", table.to_pandas(types_mapper=integers.get))


def pandas_metadata(table: pa.Table) -> dict[bytes, bytes]:
    """Returns what lets `pandas.read_parquet` give the same types as `to_pandas`."""
    import pyarrow as pa

    return {b"pandas": pa.Table.from_pandas(to_pandas(table), preserve_index=False).schema.metadata[b"pandas"]}


def _read(run: RunDirectory, spec: RunSpec, damage: str | None) -> dict[str, Any]:
    """Returns what a run's folder says, by column, apart from what the plan says."""
    outcome, sessions = None if damage else run.outcome(), run.sessions()
    first, last = (sessions[0], sessions[-1]) if sessions else ({}, {})
    columns = {name: last.get(name) for name in columns_from("session")} | {"started_at": first.get("started_at"), "updates": None}
    if outcome is None:
        return columns | ({"outcome": Outcome.INTERRUPTED, "reason": damage} if damage else {"outcome": run.state()})
    run.check_spec(spec)
    columns |= {name: outcome.summary.get(name) for name in ("examples", *columns_from("cost"))}
    if outcome.outcome is Outcome.OK:
        columns |= {name: outcome.summary.get(name) for name in columns_from("result")} | {"test_correct": outcome.test_correct or None}
    return columns | {"outcome": outcome.outcome, "reason": outcome.reason, "replicas": outcome.replicas, "updates": outcome.update}


def _row(run: PlannedRun, read: Mapping[str, Any], prediction: Prediction | None) -> dict[str, Any]:
    spec, labels = run.spec, run.labels
    values: dict[str, Any] = {
        **{name: getattr(labels, name) for name in RUN_COLUMNS if name in type(labels).model_fields},
        **{name: getattr(spec, name) for name in RUN_COLUMNS if name in type(spec).model_fields},
        **read,
        "run_id": run.run_id,
        **{name: without_folders(str(read[name])) for name in MESSAGES if read.get(name)},
        "axes": json.dumps(labels.axes) if labels.axes else None,
        "words": json.dumps(labels.words) if labels.words else None,
        "change": canonical_json(labels.change.model_dump(mode="json")),
        "values": canonical_json(values_of(spec)),
        "dataset": spec.dataset.name,
        "dataset_options": _options(spec.dataset, catalog.datasets()),
        "model": spec.model.name,
        "model_options": _options(spec.model, catalog.models()),
        "optimizer": spec.optimizer.name,
        "planned_updates": spec.updates,
        "planned_examples": spec.examples,
        "reference_examples": spec.reference_examples,
        "examples": _examples(spec, read["updates"], read.get("examples")),
        "gradients": _gradients(spec, read["updates"], read.get("examples")),
        "extrapolation": None if spec.extrapolation is None else canonical_json(spec.extrapolation.model_dump(mode="json")),
        "adaptive_batch": None if spec.adaptive_batch is None else canonical_json(spec.adaptive_batch.model_dump(mode="json")),
        "predicted_seconds": prediction.seconds if prediction else None,
    }
    return {name: _plain(values.get(name), column.kind) for name, column in RUN_COLUMNS.items()}


def _examples(spec: RunSpec, updates: Any, counted: Any) -> int | None:
    """Returns the examples that a run has seen: as planned for its updates, or as counted where its sizes were decided while training."""
    if updates is None:
        return None
    return spec.batches.examples(updates) if spec.adaptive_batch is None else counted


def _gradients(spec: RunSpec, updates: Any, counted: Any) -> int | None:
    """Returns the gradients of examples that a run has computed."""
    if updates is None or spec.adaptive_batch is None:
        return None if updates is None else spec.gradients(updates)
    return None if counted is None else round(counted * spec.gradients_per_update)


def _curves(results: ResultsDirectory, run_ids: list[str], metadata: dict[bytes, bytes]) -> pa.Table:
    import pyarrow as pa

    schema = pa.schema([(name, arrow_type(kind)) for name, kind in CURVE_COLUMNS.items()])
    parts = [schema.empty_table()]
    for run_id in run_ids:
        events = read_events(results.run(run_id).events_path)
        rows = [(run_id, event.update, event.examples, *value) for event in events for value in event.values]
        columns = zip(*rows, strict=True) if rows else [()] * len(CURVE_COLUMNS)
        parts.append(pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema))
    return pa.concat_tables(parts).replace_schema_metadata(metadata)


def arrow_type(kind: Kind) -> Any:
    """Returns the type in a Parquet file of a column of one kind."""
    import pyarrow as pa

    return {"text": pa.string(), "flag": pa.bool_(), "integer": pa.int64(), "number": pa.float64(), "bits": pa.binary()}[kind]


def _plain(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind == "number":
        return float(value)  # also "NaN" and "Infinity", as JSON holds them
    if kind == "integer":
        return int(value)
    if kind == "text" and isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return str(value) if kind == "text" else value


def _options(component: Component, known: Mapping[str, ComponentEntry]) -> str:
    """Returns all options as JSON; those younger than the plan have their neutral value, so that older and newer runs are alike."""
    parameters = known[component.name].parameters if component.name in known else {}
    younger = {name: parameter.neutral for name, parameter in parameters.items() if parameter.neutral is not None}
    return json.dumps({**younger, **component.options}, sort_keys=True, separators=(",", ":"))
