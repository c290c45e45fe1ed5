"""plan.parquet: one row per planned run and label; the tables are made from it and from the run folders alone."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gapbench.core.errors import StoreError
from gapbench.core.machine import is_absolute, short_names, without_folders
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
    commands: tuple[str, ...] = ()
    """What was called to train it, each command once, in order."""

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The ids, each once, in order."""
        return tuple(dict.fromkeys(run.run_id for run in self.runs))

    def metadata(self) -> bytes:
        """Returns the value under METADATA_KEY."""
        facts = {"schema": SCHEMA_VERSION, "suite": self.suite, "report": to_json(dict(self.report)), "commands": [*self.commands]}
        return json.dumps(facts, allow_nan=False).encode()


Names = Mapping[tuple[str, str], str]
"""Names of users' own files by path and content; the content of those whose path is part of their runs' identity is empty."""


def file_names(datasets: Iterable[Mapping[str, Any]]) -> Names:
    """Returns the names under which the files of data sets are published: no folder of a machine leaves it.

    Files of one content have one name, that of the first; it is as long as tells it from the others.

    Args:
        datasets: options of each.
    """
    given = ((str(options["path"]), str(options.get("content", ""))) for options in datasets if options.get("path"))
    files = dict.fromkeys((path, content) for path, content in given if is_absolute(path))
    leading: dict[str, str] = {}
    for path, content in files:
        leading.setdefault(content or path, path)
    short = short_names(leading.values())
    taken = [*leading.values()]
    return {
        (path, content): short[leading[content or path]] + (f" ({content[:8]})" if taken.count(leading[content or path]) > 1 else "")
        for path, content in files
    }


def with_names(text: str, names: Names) -> str:
    """Returns a text, such as JSON or TOML, with the names of files in the places of their paths."""
    for (path, _), name in sorted(names.items(), key=lambda item: -len(item[0][0])):
        for written in (path, json.dumps(path, ensure_ascii=False)[1:-1], json.dumps(path)[1:-1]):
            text = text.replace(written, name)
    return text


def shared_plan(plan: StoredPlan) -> StoredPlan:
    """Returns a plan as others may see it, without folders of this machine. Ids stay those of the runs that were trained."""
    names = file_names(run.spec.dataset.options for run in plan.runs)
    report = json.loads(with_names(json.dumps(to_json(dict(plan.report))), names))
    commands = tuple(map(without_folders, plan.commands))
    return replace(plan, runs=tuple(_shared_run(run, names) for run in plan.runs), report=report, commands=commands)


def shared_suite(text: str, plan: StoredPlan | None) -> str:
    """Returns a suite file as others may see it: files by the names that the plan has for them, or by their own."""
    datasets = [run.spec.dataset.options for run in plan.runs] if plan else []
    known = {options.get("path") for options in datasets}
    try:
        others = [{"path": path} for path in _data_paths(tomllib.loads(text)) if path not in known]
    except tomllib.TOMLDecodeError:
        others = []
    return with_names(text, file_names([*datasets, *others]))


def _data_paths(value: Any, *, of_data: bool = False) -> Iterator[str]:
    """Yields the paths of users' own data in a suite."""
    if isinstance(value, list):
        for item in value:
            yield from _data_paths(item, of_data=of_data)
    elif isinstance(value, dict):
        for key, item in value.items():
            if of_data and key == "path" and isinstance(item, str):
                yield item
            else:
                yield from _data_paths(item, of_data=key == "dataset")


def _shared_run(run: PlannedRun, names: Names) -> PlannedRun:
    options = run.spec.dataset.options
    name = names.get((str(options.get("path", "")), str(options.get("content", ""))))
    if name is None:
        return run
    dataset = run.spec.dataset.model_copy(update={"options": {**options, "path": name}})
    return run.model_copy(update={"spec": run.spec.model_copy(update={"dataset": dataset})})


def write_plan(path: Path, plan: StoredPlan) -> None:
    """Writes plan.parquet, atomically."""
    write_table(path, plan_table(plan))


def plan_table(plan: StoredPlan) -> pa.Table:
    """Returns a plan as a table, one row a run and label."""
    import pyarrow as pa

    predictions = [plan.predictions.get(run.run_id) for run in plan.runs]
    return pa.table(
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


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a table as Parquet, whole or not at all."""
    write_atomically(path, lambda file: write_parquet(file, table))


def write_parquet(file: BinaryIO, table: pa.Table) -> None:
    """Writes a table as Parquet into an open file."""
    import pyarrow.parquet as pq

    pq.write_table(table, file, compression="zstd")


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
        specs = [RunSpec.model_validate_json(row["spec"]) for row in rows]
        names = file_names(spec.dataset.options for spec in specs)
        runs = tuple(PlannedRun(run_id=row["run_id"], spec=spec, labels=_labels(row, names)) for row, spec in zip(rows, specs, strict=True))
        predictions = {
            row["run_id"]: Prediction(row["predicted_seconds"], row["prediction_basis"])
            for row in rows
            if row.get("predicted_seconds") is not None  # plans of earlier versions have no such column
        }
    except FileNotFoundError:
        raise StoreError(f"{path}: nothing was planned here yet; `gapbench run SUITE` makes it") from None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise StoreError(f"{path}: cannot be read ({error}); run the suite again to have it written anew") from error
    return StoredPlan(
        suite=metadata["suite"], runs=runs, report=metadata["report"], predictions=predictions, commands=tuple(metadata.get("commands", ()))
    )


def _labels(row: Mapping[str, Any], names: Names) -> Labels:
    labels = json.loads(with_names(row["labels"], names))  # those of earlier versions hold paths
    if "change" not in labels:
        labels = with_records({"batch_size": row["batch_size"], **labels})
        del labels["batch_size"]
    return Labels.model_validate(labels)
