"""plan.parquet: one row per planned run and label; the tables are made from it and from the run folders alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench.core.errors import StoreError
from gapbench.store.files import to_json, write_atomically
from gapbench.store.schema import SCHEMA_VERSION, refuse_newer, with_records
from gapbench.suite.runspec import Labels, PlannedRun, RunSpec

if TYPE_CHECKING:
    import pyarrow as pa

METADATA_KEY = b"gapbench"
"""Of every Parquet file here: JSON with the schema version, the suite's name and its report settings."""


@dataclass(frozen=True)
class Prediction:
    """What a run was predicted to take before it trained."""

    seconds: float
    """On its device, all of it; of a stack, the run's share."""
    basis: str
    """What it rests on: measured (jobs of that machine), calibrated (a short measurement there) or rough."""


@dataclass(frozen=True)
class StoredPlan:
    """The runs of a suite, with the settings of its report."""

    suite: str
    runs: tuple[PlannedRun, ...]
    report: Mapping[str, Any] = field(default_factory=dict)
    """[report] of the suite as plain JSON."""
    predictions: Mapping[str, Prediction] = field(default_factory=dict)
    """By run id, where one could be made; empty in plans of a gapbench that kept none."""

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The ids, each once, in order."""
        return tuple(dict.fromkeys(run.run_id for run in self.runs))

    def metadata(self) -> bytes:
        """Returns the value under METADATA_KEY."""
        return json.dumps({"schema": SCHEMA_VERSION, "suite": self.suite, "report": to_json(dict(self.report))}, allow_nan=False).encode()


def write_plan(path: Path, plan: StoredPlan) -> None:
    """Writes plan.parquet, atomically."""
    import pyarrow as pa

    predictions = [plan.predictions.get(run.run_id) for run in plan.runs]
    table = pa.table(
        {
            "run_id": pa.array([run.run_id for run in plan.runs], pa.string()),
            "cell": pa.array([run.labels.cell for run in plan.runs], pa.string()),
            "arm": pa.array([run.labels.arm for run in plan.runs], pa.string()),
            "batch_size": pa.array([run.spec.batch_size for run in plan.runs], pa.int64()),
            "seed": pa.array([run.spec.seed for run in plan.runs], pa.int64()),
            "labels": pa.array([run.labels.model_dump_json() for run in plan.runs], pa.string()),
            "spec": pa.array([run.spec.model_dump_json() for run in plan.runs], pa.string()),
            "predicted_seconds": pa.array([found.seconds if found else None for found in predictions], pa.float64()),
            "prediction_basis": pa.array([found.basis if found else None for found in predictions], pa.string()),
        },
        metadata={METADATA_KEY: plan.metadata()},
    )
    write_table(path, table)


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a table as Parquet, whole or not at all."""
    import pyarrow.parquet as pq

    write_atomically(path, lambda file: pq.write_table(table, file, compression="zstd"))


def read_plan(path: Path) -> StoredPlan:
    """Reads plan.parquet.

    Raises:
        StoreError: the file is missing, damaged, or of a newer schema.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        metadata = json.loads(table.schema.metadata[METADATA_KEY])
        refuse_newer(int(metadata["schema"]), str(path))
        rows = table.to_pylist()
        runs = tuple(PlannedRun(run_id=row["run_id"], spec=RunSpec.model_validate_json(row["spec"]), labels=_labels(row)) for row in rows)
        predictions = {
            row["run_id"]: Prediction(row["predicted_seconds"], row["prediction_basis"])
            for row in rows
            if row.get("predicted_seconds") is not None  # plans of earlier versions have no such column
        }
    except FileNotFoundError:
        raise StoreError(f"{path}: nothing was planned here yet; `gapbench run SUITE` makes it") from None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise StoreError(f"{path}: cannot be read ({error}); run the suite again to have it written anew") from error
    return StoredPlan(suite=metadata["suite"], runs=runs, report=metadata["report"], predictions=predictions)


def _labels(row: Mapping[str, Any]) -> Labels:
    labels = json.loads(row["labels"])
    if "change" not in labels:
        labels = with_records({"batch_size": row["batch_size"], **labels})
        del labels["batch_size"]
    return Labels.model_validate(labels)
