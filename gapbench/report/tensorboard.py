"""Curves as TensorBoard event files, through torch's own writer: one folder for each run, one scalar for each metric.

The only module of this room that imports torch, and only when it writes; tests/test_house.py names it.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapbench import catalog
from gapbench.core.errors import GapbenchError
from gapbench.report.tables import markdown

if TYPE_CHECKING:
    from gapbench.store import Tables

SHOWN = ("cell", "seed", "run_id", "outcome", "reason", "batch_size", "ghost_batch_size", "learning_rate", "regime", "test_accuracy",
         "test_loss", "train_loss", "updates", "device_name", "torch_version", "gapbench_version")  # fmt: skip
"""Columns of `runs.parquet` in the text of each run."""

LONGEST = 120
"""Bytes of a folder's name; disks allow 255."""


class TensorboardError(GapbenchError):
    """The package tensorboard is missing or cannot be used."""


def writer_class() -> Any:
    """Returns torch's writer of event files. Raises TensorboardError where they cannot be written. Imports torch."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TensorboardError(
            f"export --tensorboard needs the package tensorboard ({error}); `pip install 'gapbench[tensorboard]'` installs it"
        ) from error
    return SummaryWriter


def write_tensorboard(tables: Tables, folder: Path) -> int:
    """Writes every run's curves into `folder/<cell>/<seed>/`; returns the number of runs.

    The step is the update; layers stand behind the metric (`weight_distance/0.weight`). When something was measured is not known, so
    every event has the time at which its run began.

    Raises:
        TensorboardError: the package tensorboard is missing.
    """
    summary_writer = writer_class()
    many = {metric for probe in catalog.probes().values() for metric in probe.vectors}  # no scalars
    shown = tables.curves[~tables.curves["metric"].isin(many)]
    by_run = {str(run_id): curve for run_id, curve in shown.groupby("run_id", sort=False)}
    names = _folders(tables)
    for (run_id, name), row in names.items():
        began = _seconds(row.get("started_at"))
        writer = summary_writer(log_dir=str(folder / name))
        try:
            writer.add_text("run", _describe(row), 0, walltime=began)
            if run_id in by_run:
                values = by_run[run_id][["update", "metric", "layer", "value"]]
                for update, metric, layer, value in values.itertuples(index=False):
                    tag = f"{metric}/{layer}" if layer else metric
                    writer.add_scalar(tag, value, int(update), walltime=began)
        finally:
            writer.close()
    return len(names)


def _folders(tables: Tables) -> dict[tuple[str, str], dict[str, Any]]:
    """Returns the rows by run id and folder; every label of a run has a folder of its own."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for row in tables.runs.to_dict("records"):
        cell = str(row["cell"])
        if cell not in folders:
            folders[cell] = _free(_slug(cell), folders.values())
        name = _free(f"{folders[cell]}/seed-{row['seed']}", taken)  # an override may give one seed two runs
        taken.add(name)
        rows[(str(row["run_id"]), name)] = {str(key): value for key, value in row.items()}
    return rows


def _free(name: str, taken: Iterable[str]) -> str:
    """Returns the name, with a number where another one has it, or would have it on a disk that ignores case."""
    known = {other.casefold() for other in taken}
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free.casefold() not in known)


def _slug(text: str) -> str:
    """Returns a text as the name of a folder on any system: letters of all scripts, digits, few marks, and no longer than disks allow."""
    plain = re.sub(r"[^\w.+=-]+", "_", unicodedata.normalize("NFC", text)).strip("._")
    return plain.encode()[:LONGEST].decode(errors="ignore") or "cell"


def _describe(row: dict[str, Any]) -> str:
    import pandas as pd

    lines = [f"| {name} | {markdown(str(row[name]))} |" for name in SHOWN if name in row and not pd.isna(row[name]) and row[name] != ""]
    return "\n".join(["| | |", "|---|---|", *lines])


def _seconds(text: Any) -> float:
    """Returns a time in seconds since 1970; 0 where a run was never begun."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0
