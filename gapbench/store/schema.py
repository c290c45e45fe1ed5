"""The version of a results directory, and how older ones are brought up to date."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gapbench
from gapbench.core.errors import StoreError
from gapbench.store.files import read_json, write_json
from gapbench.suite.change import Change, from_labels, words_from_labels

SCHEMA_VERSION = 1
"""Of everything in a results directory. Raised with a migration whenever a file changes its meaning."""

SCHEMA_FILE = "schema.json"


@dataclass(frozen=True)
class Migration:
    """Brings a results directory from one version to the next."""

    from_version: int
    summary: str
    apply: Callable[[Path], None]
    """Gets the results directory; must be safe to repeat, for it may be interrupted."""


MIGRATIONS: tuple[Migration, ...] = ()
"""In order, one for each version below SCHEMA_VERSION; version 1 is the first, so there are none yet."""


def write_schema(folder: Path, suite: str, **more: Any) -> None:
    """Writes the mark that makes a folder a results directory of `suite`."""
    write_json(
        folder / SCHEMA_FILE,
        {"schema": SCHEMA_VERSION, "suite": suite, "gapbench_version": gapbench.__version__, "created": utc_now(), **more},
    )


def read_schema(folder: Path) -> dict[str, Any]:
    """Returns the content of schema.json.

    Raises:
        StoreError: the folder is missing, no results directory, or of a newer version than this gapbench knows.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such results directory; `gapbench run SUITE` makes one")
    if not (folder / SCHEMA_FILE).is_file():
        raise StoreError(f"{folder}: is no results directory of gapbench (it has no {SCHEMA_FILE})")
    schema = read_json(folder / SCHEMA_FILE)
    if not isinstance(schema, dict) or not isinstance(schema.get("schema"), int) or not isinstance(schema.get("suite"), str):
        raise StoreError(f"{folder / SCHEMA_FILE}: should hold the numbers of a schema and the name of a suite; is the file damaged?")
    refuse_newer(schema["schema"], str(folder), str(schema.get("gapbench_version", "")))
    return schema


def refuse_newer(version: int, place: str, written_by: str = "") -> None:
    """Raises StoreError where `version` is newer than this gapbench can read."""
    if version > SCHEMA_VERSION:
        by = f" (gapbench {written_by})" if written_by else ""
        raise StoreError(
            f"{place}: was written by a newer gapbench{by}, with schema {version}; gapbench {gapbench.__version__} reads up to schema "
            f"{SCHEMA_VERSION}. Upgrade with `pip install --upgrade gapbench`, or choose another directory with --results"
        )


def migrate(folder: Path, migrations: Sequence[Migration] = MIGRATIONS, target: int = SCHEMA_VERSION) -> list[str]:
    """Brings a results directory up to date, one version at a time; returns what was done. Call it under the directory's lock.

    Raises:
        StoreError: there is no way from the directory's version to the target.
    """
    schema = read_schema(folder)
    by_version = {migration.from_version: migration for migration in migrations}
    done = []
    while schema["schema"] < target:
        migration = by_version.get(schema["schema"])
        if migration is None:
            raise StoreError(
                f"{folder}: schema {schema['schema']} is too old for gapbench {gapbench.__version__}; "
                "export it with the version that wrote it"
            )
        migration.apply(folder)
        schema = {**schema, "schema": schema["schema"] + 1}
        write_json(folder / SCHEMA_FILE, schema)
        done.append(migration.summary)
    return done


def with_records(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run's labels, or its row of runs.parquet, with `change` and `words` as data, of results without them derived from labels.

    Args:
        row: values by field of `Labels` or by column, `batch_size` among them; missing values left out.
    """
    change, words = row.get("change"), row.get("words")
    return {
        **row,
        "change": from_labels(row) if change is None else Change.model_validate_json(change),
        "words": words_from_labels(row) if words is None else json.loads(words),
    }


def utc_now() -> str:
    """Returns the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
