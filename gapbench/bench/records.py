"""The table of timings, `timings.parquet`: one row a timing, added a whole round at a time, never written over or thinned out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from filelock import FileLock, Timeout

from gapbench.bench.cases import Case
from gapbench.bench.machine import Machine
from gapbench.core.errors import StoreError
from gapbench.store.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd


SCHEMA = 1
"""Version of the table; raised with a way to read older ones whenever a column changes its meaning."""
METADATA_KEY = b"gapbench.bench"
FILE = "timings.parquet"

Kind = Literal["text", "flag", "integer", "number"]

COLUMNS: dict[str, Kind] = {
    "group": "text",
    "case": "text",
    "round": "integer",
    "side": "text",
    "again": "flag",
    "started_at": "text",
    "loaded": "flag",
    "load_cores": "number",
    "precision": "text",
    "form": "text",
    "examples_per_second": "number",
    "updates": "integer",
    "examples": "integer",
    "seconds": "number",
    "cpu_seconds": "number",
    "event_seconds": "number",
    "first_update_seconds": "number",
    "flops_per_example": "number",
    "bytes_per_example": "number",
    "peak_flops_per_second": "number",
    "peak_bytes_per_second": "number",
    "gate_difference": "number",
    "threads": "integer",
    "batch_size": "integer",
    "ghost_batch_size": "integer",
    "replicas": "integer",
    "device_kind": "text",
    "machine": "text",
    "cores": "integer",
    "torch_version": "text",
    "python_version": "text",
    "gapbench_version": "text",
    "source": "text",
    "git_commit": "text",
    "driver_version": "text",
    "clock_before_mhz": "integer",
    "clock_after_mhz": "integer",
}
"""`group`: what has to be equal for rounds to be counted together. `again`: the second timing of a case's first side. `loaded`: timed on
a loaded machine. `form`: how an update is computed. `gate_difference`: largest relative difference of first losses in the gate."""


def group_of(case: Case, machine: Machine, *, seconds: float, threads: int) -> str:
    """Returns a digest of what has to be equal for rounds to be counted together, 12 hex digits. Goals and texts are no part of it."""
    task = asdict(case.task) | {"model": case.task.model.model_dump(mode="json")}
    sides = [asdict(side) for side in case.sides]
    what = {
        "case": case.name,
        "task": task,
        "sides": sides,
        "seconds": seconds,
        "threads": threads,
        "together": case.together,
        **machine.columns,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


class Records:
    """The timings of one directory. Make it with `open`, which holds the directory's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table = read_timings(folder)

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[Records]:
        """Makes or opens the directory.

        Raises:
            StoreError: another process works in it, it cannot be used, or its table is damaged or of a newer schema.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / ".lock")
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(f"{folder}: another gapbench is timing into this directory; wait, or choose another with --output") from None
        except OSError as error:
            raise StoreError(f"{folder}: cannot be used ({error.strerror or error}); choose another directory with --output") from error
        try:
            yield cls(folder)
        finally:
            lock.release()

    def rounds(self, group: str, *, anyway: bool) -> int:
        """Returns how many rounds of a group are there; those from a loaded machine count only where `anyway` is asked for."""
        rows = self.table[self.table["group"] == group]
        loaded = set() if anyway else set(rows.loc[rows["loaded"], "round"])
        return len(set(rows["round"]) - loaded)

    def next_round(self, group: str) -> int:
        """Returns the number of the next round of a group."""
        rows = self.table[self.table["group"] == group]
        return int(rows["round"].max()) + 1 if len(rows) else 0

    def add_round(self, timings: Sequence[Mapping[str, Any]]) -> None:
        """Adds the timings of a round and writes the table, which holds either all of them or none, whatever happens."""
        import pandas as pd

        rows = _frame([{name: timing.get(name) for name in COLUMNS} for timing in timings])
        self.table = pd.concat([self.table, rows], ignore_index=True) if len(self.table) else rows
        write_timings(self.folder, self.table)


def read_timings(folder: Path) -> pd.DataFrame:
    """Returns the timings of a directory, none where there is no table yet.

    Raises:
        StoreError: the table is damaged, somebody else's or of a newer schema.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / FILE
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        return _frame([])
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path}: cannot be read ({error}); restore it, or choose another directory with --output") from error
    try:
        schema = int(json.loads(table.schema.metadata[METADATA_KEY])["schema"])
    except (TypeError, KeyError, ValueError) as error:
        raise StoreError(f"{path}: is no table of timings; choose another directory with --output") from error
    if schema > SCHEMA:
        raise StoreError(
            f"{path}: was written by a newer gapbench (schema {schema}; this one reads up to {SCHEMA}); upgrade with "
            "`pip install --upgrade gapbench`, or choose another directory with --output"
        )
    return _typed(table.to_pandas())


def write_timings(folder: Path, timings: pd.DataFrame) -> None:
    """Writes the table, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"text": pa.string(), "flag": pa.bool_(), "integer": pa.int64(), "number": pa.float64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    metadata = {METADATA_KEY: json.dumps({"schema": SCHEMA}).encode()}
    table = pa.Table.from_pandas(timings, schema=schema, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    write_atomically(folder / FILE, lambda file: cast("None", pq.write_table(table, file, compression="zstd")))


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return _typed(pd.DataFrame(list(rows), columns=list(COLUMNS)))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    kinds = {"text": "object", "flag": "bool", "integer": "Int64", "number": "float64"}
    return frame.astype({name: kinds[kind] for name, kind in COLUMNS.items()})


# Ratios of medians over rounds, with bootstrap intervals, and how far two timings of the same thing differ.

RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians; `low` and `high` are a 95 % interval, None from a single round."""

    value: float
    low: float | None
    high: float | None


def ratio_of_medians(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Returns median(numerators) / median(denominators) with a percentile bootstrap interval over rounds.

    Both sides of a round were timed within a minute of each other, so that a slow minute hits both: rounds are drawn, not timings.

    Args:
        numerators: one a round.
        denominators: one a round, of the same rounds.

    Raises:
        ValueError: there is no round, or the sides have different numbers of them.
    """
    if not numerators or len(numerators) != len(denominators):
        raise ValueError(f"needs as many numerators as denominators, not {len(numerators)} and {len(denominators)}")
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    value = float(np.median(above) / np.median(below))
    if len(above) == 1:
        return Ratio(value, None, None)
    drawn = np.random.default_rng(SEED).integers(0, len(above), (RESAMPLES, len(above)))
    ratios = np.median(above[drawn], axis=1) / np.median(below[drawn], axis=1)
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(ratios, [tail, 1.0 - tail])
    return Ratio(value, float(low), float(high))


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Returns the median of each round's ratio, where the sides of a round took turns, with a bootstrap interval over rounds.

    Args:
        numerators: one a round.
        denominators: one a round, of the same rounds.

    Raises:
        ValueError: see `ratio_of_medians`.
    """
    if len(numerators) != len(denominators):
        raise ValueError(f"needs as many numerators as denominators, not {len(numerators)} and {len(denominators)}")
    ratios = [above / below for above, below in zip(numerators, denominators, strict=True)]
    return ratio_of_medians(ratios, [1.0] * len(ratios))


def spread(
    first: Sequence[float], second: Sequence[float], ratio_of: Callable[[Sequence[float], Sequence[float]], Ratio] = ratio_of_medians
) -> float | None:
    """Returns how far equal things differ: the largest distance from 1 of the interval of second to first, two timings of one program.

    No difference that is smaller can be claimed. None from a single round.
    """
    if len(first) < 2:
        return None
    ratio = ratio_of(second, first)
    assert ratio.low is not None
    assert ratio.high is not None
    return max(abs(ratio.low - 1.0), abs(ratio.high - 1.0))
