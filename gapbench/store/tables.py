"""The two tidy tables: runs.parquet and curves.parquet, made from the plan and the run folders, replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from gapbench import catalog
from gapbench.catalog import ComponentEntry
from gapbench.core.errors import StoreError
from gapbench.core.events import Outcome
from gapbench.store.directory import ResultsDirectory
from gapbench.store.files import write_atomically
from gapbench.store.plan import METADATA_KEY, Prediction
from gapbench.store.run_directory import RunDirectory, read_events
from gapbench.store.schema import refuse_newer
from gapbench.suite.runspec import Component, PlannedRun, RunSpec, canonical_json

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Kind = Literal["text", "flag", "integer", "number", "bits"]

RUN_COLUMNS: dict[str, Kind] = {
    "run_id": "text",
    "suite": "text",
    "cell": "text",
    "cell_order": "integer",
    "arm": "text",
    "reference_cell": "flag",
    "reference": "text",
    "axes": "text",
    "words": "text",
    "recipe": "text",
    "preset": "text",
    "dataset": "text",
    "dataset_options": "text",
    "model": "text",
    "model_options": "text",
    "batch_size": "integer",
    "regime": "text",
    "change": "text",
    "adaptive_batch": "text",
    "ghost_batch_size": "integer",
    "optimizer": "text",
    "precision": "text",
    "learning_rate": "number",
    "learning_rate_rule": "text",
    "momentum_reset": "text",
    "budget": "text",
    "seed": "integer",
    "init_seed": "integer",
    "order_seed": "integer",
    "split_seed": "integer",
    "split_drawn": "flag",
    "outcome": "text",
    "reason": "text",
    "test_accuracy": "number",
    "test_loss": "number",
    "train_accuracy": "number",
    "train_loss": "number",
    "validation_accuracy": "number",
    "validation_loss": "number",
    "updates": "integer",
    "planned_updates": "integer",
    "planned_examples": "integer",
    "examples": "integer",
    "reference_batch_size": "integer",
    "reference_updates": "integer",
    "reference_examples": "integer",
    "train_examples": "integer",
    "weight_distance": "number",
    "clipped_share": "number",
    "clipped_share_late": "number",
    "train_seconds": "number",
    "evaluation_seconds": "number",
    "other_seconds": "number",
    "predicted_seconds": "number",
    "peak_memory_mib": "number",
    "replicas": "integer",
    "threads": "integer",
    "slots": "integer",
    "device": "text",
    "device_name": "text",
    "program": "text",
    "program_refused": "text",
    "ghost_norm_form": "text",
    "micro_batch_size": "integer",
    "gapbench_version": "text",
    "torch_version": "text",
    "python_version": "text",
    "git_commit": "text",
    "git_dirty": "flag",
    "started_at": "text",
    "test_correct": "bits",
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

TEST_COLUMNS = frozenset({"test_accuracy", "test_loss", "test_correct"})
"""Left out of the tables of trials, which leave the test set alone."""

RESULTS = (
    "test_accuracy",
    "test_loss",
    "train_accuracy",
    "train_loss",
    "validation_accuracy",
    "validation_loss",
    "weight_distance",
    "clipped_share",
    "clipped_share_late",
)
"""Numbers that only a run with outcome ok has."""

COSTS = (
    "train_seconds",
    "evaluation_seconds",
    "other_seconds",
    "peak_memory_mib",
    "program",
    "program_refused",
    "ghost_norm_form",
    "micro_batch_size",
)
"""What a run has taken, however it ended."""

_EXECUTION = ("threads", "slots", "device", "device_name", "gapbench_version", "torch_version", "python_version", "git_commit", "git_dirty")


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


def build_tables(results: ResultsDirectory) -> None:
    """Writes runs.parquet and curves.parquet from plan.parquet and `runs/`. Runs that are no longer planned stay out.

    Raises:
        StoreError: there is no plan, a run folder holds another run than its name says, or a table cannot be written.
    """
    import pyarrow as pa

    plan = results.plan()
    metadata = {METADATA_KEY: plan.metadata()}
    read: dict[str, _Read] = {}
    for run in plan.runs:
        if run.run_id not in read:
            read[run.run_id] = _Read.of(results.run(run.run_id), run.spec)
    rows = [_row(run, read[run.run_id], plan.predictions.get(run.run_id)) for run in plan.runs]
    untested = bool(plan.runs) and not any(run.spec.test_evaluation for run in plan.runs)
    columns = {name: kind for name, kind in RUN_COLUMNS.items() if not (untested and name in TEST_COLUMNS)}
    runs = pa.table({name: pa.array([row[name] for row in rows], arrow_type(kind)) for name, kind in columns.items()}, metadata=metadata)
    curves = _curves(results, [run_id for run_id in plan.run_ids if read[run_id].has_curve], metadata)
    write_table(results.curves_table_path, curves)
    write_table(results.runs_table_path, runs.replace_schema_metadata({**metadata, **pandas_metadata(runs)}))


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
    return Tables(to_pandas(tables["runs"]), to_pandas(tables["curves"]), metadata["suite"], metadata["report"])


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


@dataclass(frozen=True)
class _Read:
    """What a run's folder says, by column, apart from what the plan says."""

    columns: Mapping[str, Any]
    has_curve: bool
    """Only runs with an outcome have one: a run exists only when its outcome does."""

    @classmethod
    def of(cls, run: RunDirectory, spec: RunSpec) -> _Read:
        outcome = run.outcome()
        if outcome is not None:
            run.check_spec(spec)
        sessions = run.sessions()
        last = sessions[-1] if sessions else {}
        columns: dict[str, Any] = {name: last.get(name) for name in _EXECUTION}
        columns["started_at"] = sessions[0].get("started_at") if sessions else None
        if outcome is None:
            columns["outcome"] = (Outcome.INTERRUPTED if run.has_begun() else Outcome.SKIPPED).value
            return cls(columns, has_curve=False)
        columns["outcome"] = outcome.outcome.value
        columns["reason"] = outcome.reason
        columns["replicas"] = outcome.replicas
        columns["updates"] = outcome.update
        columns["examples"] = outcome.summary.get("examples")
        for name in COSTS:
            columns[name] = outcome.summary.get(name)
        if outcome.outcome is Outcome.OK:
            for name in RESULTS:
                columns[name] = outcome.summary.get(name)
            columns["test_correct"] = outcome.test_correct or None
        return cls(columns, has_curve=True)


def _row(run: PlannedRun, read: _Read, prediction: Prediction | None) -> dict[str, Any]:
    spec, labels = run.spec, run.labels
    updates = read.columns.get("updates")
    values: dict[str, Any] = {
        **{name: getattr(labels, name) for name in RUN_COLUMNS if name in type(labels).model_fields},
        **{name: getattr(spec, name) for name in RUN_COLUMNS if name in type(spec).model_fields},
        **read.columns,
        "run_id": run.run_id,
        "axes": json.dumps(labels.axes) if labels.axes else None,
        "words": json.dumps(labels.words) if labels.words else None,
        "change": canonical_json(labels.change.model_dump(mode="json")),
        "dataset": spec.dataset.name,
        "dataset_options": _options(spec.dataset, catalog.datasets()),
        "model": spec.model.name,
        "model_options": _options(spec.model, catalog.models()),
        "optimizer": spec.optimizer.name,
        "updates": updates,
        "planned_updates": spec.updates,
        "planned_examples": spec.examples,
        "reference_examples": spec.reference_examples,
        "examples": _examples(spec, updates, read.columns.get("examples")),
        "adaptive_batch": None if spec.adaptive_batch is None else canonical_json(spec.adaptive_batch.model_dump(mode="json")),
        "predicted_seconds": prediction.seconds if prediction else None,
    }
    return {name: _plain(values.get(name), kind) for name, kind in RUN_COLUMNS.items()}


def _examples(spec: RunSpec, updates: Any, counted: Any) -> int | None:
    """Returns the examples that a run has seen: as planned for its updates, or as counted where its sizes were decided while training."""
    if updates is None:
        return None
    return spec.batches.examples(updates) if spec.adaptive_batch is None else counted


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


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a table as Parquet, whole or not at all."""
    import pyarrow.parquet as pq

    write_atomically(path, lambda file: pq.write_table(table, file, compression="zstd"))


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
    return str(value) if kind == "text" else value


def _options(component: Component, known: Mapping[str, ComponentEntry]) -> str:
    """Returns all options as JSON; those younger than the plan have their neutral value, so that older and newer runs are alike."""
    parameters = known[component.name].parameters if component.name in known else {}
    younger = {name: parameter.neutral for name, parameter in parameters.items() if parameter.neutral is not None}
    return json.dumps({**younger, **component.options}, sort_keys=True, separators=(",", ":"))
