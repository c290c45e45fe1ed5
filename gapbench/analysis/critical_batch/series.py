"""Steps to a target from anywhere: a CSV file of batch sizes and steps, one curve or several."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from gapbench.analysis.critical_batch.rates import Passage
from gapbench.core.errors import GapbenchError

BATCH, STEPS = "batch_size", "steps"
SERIES, RATE, SEED, TRAINED = "series", "learning_rate", "seed", "trained"
COLUMNS = (SERIES, BATCH, STEPS, RATE, SEED, TRAINED)


class SeriesError(GapbenchError):
    """A file that does not hold steps by batch size."""


def read_series(path: Path) -> Mapping[str, list[Passage]]:
    """Returns the runs of every curve in a CSV file with a heading.

    Columns: `batch_size` and `steps` (empty: the target was not reached); if wanted `series` (name of the curve), `learning_rate`, `seed`
    and, for runs that did not reach the target, `trained` (steps that they made).

    Raises:
        SeriesError: a column is missing, or a line is mistaken; it is named.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file)
            heading = [name.strip() for name in lines.fieldnames or ()]
            lines.fieldnames = heading
            rows = [(lines.line_num, row) for row in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SeriesError(f"{path}: cannot be read as CSV: {error}") from error
    missing = [name for name in (BATCH, STEPS) if name not in heading]
    unknown = [name for name in heading if name not in COLUMNS]
    if missing or unknown:
        found = f"lacks {' and '.join(missing)}" if missing else f"has the unknown column {unknown[0]}"
        raise SeriesError(f"{path}: {found}; columns are {', '.join(COLUMNS)}, of which {BATCH} and {STEPS} are needed")
    out: dict[str, list[Passage]] = {}
    for line, row in rows:
        out.setdefault((row.get(SERIES) or "").strip() or path.stem, []).append(_passage(path, line, row))
    if not out:
        raise SeriesError(f"{path}: holds no line but its heading")
    return out


def _passage(path: Path, line: int, row: Mapping[str, str | None]) -> Passage:
    size = _number(path, line, row, BATCH)
    steps = _number(path, line, row, STEPS, empty=True)
    trained = _number(path, line, row, TRAINED, empty=True)
    if size is None or (steps is None and trained is None):
        raise SeriesError(f"{path}:{line}: a run that did not reach the target (steps empty) needs {TRAINED}, the steps that it made")
    rate = _number(path, line, row, RATE, empty=True)
    seed = _number(path, line, row, SEED, empty=True, zero=True)
    return Passage(size, rate or 0.0, int(seed or 0), steps, trained if trained is not None else steps or 0.0)


def _number(path: Path, line: int, row: Mapping[str, str | None], name: str, *, empty: bool = False, zero: bool = False) -> float | None:
    text = (row.get(name) or "").strip()
    if not text and empty:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not (value > 0.0 or (zero and value == 0.0)) or value == float("inf"):
        raise SeriesError(f'{path}:{line}: {name} must be a number greater than 0, not "{text}"')
    return value
