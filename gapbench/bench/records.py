"""The table of timings, `timings.parquet`: one row a timing, added a whole round at a time, never written over or thinned out.

Rounds are counted together where they are of the same case, on the same kind of machine, of the same source.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pynvml
from filelock import FileLock, Timeout

import gapbench
from gapbench.bench.cases import Case
from gapbench.core.errors import StoreError
from gapbench.core.machine import usable_cores
from gapbench.execution.devices import DeviceKind, find_gpus
from gapbench.store.plan import write_table
from gapbench.store.provenance import describe_machine
from gapbench.store.tables import Kind, arrow_type, pandas_metadata, to_pandas

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SCHEMA = 1
"""Version of the table; raised with a way to read older ones whenever a column changes its meaning."""
METADATA_KEY = b"gapbench.bench"
FILE = "timings.parquet"

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


_SPEED_ROOMS = ("core", "layers", "workloads", "optimizers", "probes", "engine", "sizing", "bench/peers")
_SPEED_FILES = ("suite/batches.py", "bench/cases.py", "bench/measure.py", "bench/programs.py")
_PACKAGE = Path(gapbench.__file__).parent


@dataclass(frozen=True)
class Machine:
    """What speed depends on besides the case, as columns of the table. Rounds of equal machines are counted together."""

    device_kind: DeviceKind
    machine: str
    """Processor with its cores; on CUDA the GPU, too. No host name: the next machine of the same kind goes on."""
    cores: int
    torch_version: str
    python_version: str
    gapbench_version: str
    source: str
    """Digest of the source that speed depends on, so that another engine starts its own rounds."""


def this_machine(kind: DeviceKind) -> tuple[Machine, dict[str, str | None]]:
    """Returns this machine, as far as timings on its CPU or its first GPU are concerned, and what is recorded beside it."""
    known, cores = describe_machine(), usable_cores()
    name = f"{known['cpu_name']}, {cores} {'core' if cores == 1 else 'cores'}"
    if kind == "cuda":
        name = f"{find_gpus()[0].label}, {name}"
    versions = {column: known[column] for column in ("torch_version", "python_version")} | {"gapbench_version": gapbench.__version__}
    machine = Machine(kind, name, cores, **versions, source=source_digest())
    return machine, {"git_commit": known["git_commit"], "driver_version": _driver() if kind == "cuda" else None}


@functools.cache
def source_digest() -> str:
    """Returns a digest of the source files that speed depends on, 12 hex digits."""
    files = sorted(path for room in _SPEED_ROOMS for path in (_PACKAGE / room).rglob("*.py"))
    digest = hashlib.sha256()
    for path in (*files, *(_PACKAGE / name for name in _SPEED_FILES)):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _driver() -> str | None:
    try:
        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return None
    return version.decode() if isinstance(version, bytes) else str(version)


def group_of(case: Case, machine: Machine, *, seconds: float, threads: int) -> str:
    """Returns a digest of what has to be equal for rounds to be counted together, 12 hex digits. Goals and texts are no part of it."""
    what = {
        "case": case.name,
        "task": asdict(case.task) | {"model": case.task.model.model_dump(mode="json")},
        "sides": [asdict(side) for side in case.sides],
        "seconds": seconds,
        "threads": threads,
        "together": case.together,
        **asdict(machine),
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
        """Returns how many rounds of a group are there; those from a loaded machine only with `anyway`."""
        rows = self.table[self.table["group"] == group]
        loaded = set() if anyway else set(rows.loc[rows["loaded"], "round"])
        return len(set(rows["round"]) - loaded)

    def next_round(self, group: str) -> int:
        """Returns the number of the next round of a group."""
        rows = self.table[self.table["group"] == group]
        return int(rows["round"].max()) + 1 if len(rows) else 0

    def add_round(self, timings: Sequence[Mapping[str, Any]]) -> None:
        """Adds the timings of a round and writes the table, which holds either all of them or none, whatever happens."""
        import pyarrow as pa

        before = pa.Table.from_pandas(self.table, _schema(), preserve_index=False)
        whole = pa.concat_tables([before, pa.Table.from_pylist([dict(timing) for timing in timings], _schema())])
        metadata = {METADATA_KEY: json.dumps({"schema": SCHEMA}).encode(), **pandas_metadata(whole)}
        write_table(self.folder / FILE, whole.replace_schema_metadata(metadata))
        self.table = to_pandas(whole)


def read_timings(folder: Path) -> pd.DataFrame:
    """Returns the timings of a directory, none where there is no table yet.

    Raises:
        StoreError: the table is damaged, not one of timings, or of a newer schema.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / FILE
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        return to_pandas(_schema().empty_table())
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
    return to_pandas(table)


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([(name, arrow_type(kind)) for name, kind in COLUMNS.items()])
