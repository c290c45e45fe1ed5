"""What is done with results that are there: reading, reporting, looking at how far they are, packing, cleaning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gapbench import store
from gapbench.api.frames import as_html
from gapbench.api.planning import by_cell
from gapbench.core.errors import StoreError
from gapbench.core.outcome import Outcome
from gapbench.core.paths import cache_dir
from gapbench.core.registry import unknown_name
from gapbench.store import Leftover, ResultsDirectory, Tables

if TYPE_CHECKING:
    import pandas as pd

    from gapbench.report import ReportFiles
    from gapbench.report.figures import Figures


@dataclass(frozen=True)
class CellStatus:
    """How far one cell is."""

    cell: str
    outcomes: Mapping[Outcome, int]
    """How many of its runs are how far."""
    updates_done: int
    updates: int


@dataclass(frozen=True)
class Status:
    """How far a results directory is, from its files only."""

    suite: str
    results: Path
    cells: tuple[CellStatus, ...]
    in_use: bool
    """Whether a gapbench is working in it now."""
    not_ok: Mapping[str, str]
    """By run id, outcome and reason of what ended and is not ok."""
    old_attempts: int

    def frame(self) -> pd.DataFrame:
        """Returns one row a cell: how many of its runs have each outcome, and its updates, made and planned."""
        import pandas as pd

        rows = []
        for cell in self.cells:
            counts = {outcome.value: cell.outcomes.get(outcome, 0) for outcome in Outcome}
            rows.append({"cell": cell.cell, **counts, "updates_done": cell.updates_done, "updates": cell.updates})
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        done, planned = (sum(getattr(cell, name) for cell in self.cells) for name in ("updates_done", "updates"))
        return f"Status({self.suite!r}: {done:,} of {planned:,} updates, {'training now' if self.in_use else 'nothing is training'})"

    def _repr_html_(self) -> str:
        return as_html(repr(self), self.frame(), [f"{run_id}: {reason}" for run_id, reason in self.not_ok.items()])


def find(results: str | Path | None = None, parent: str | Path = "results") -> Path:
    """Returns a results directory: a path, a bundle, the name of a suite below `parent`, or, by default, the one touched last.

    Raises:
        StoreError: there is none.
    """
    parent = Path(parent)
    known = store.find_results(parent)
    if results is None:
        if not known:
            raise StoreError(f"{parent}: holds no results yet; `gapbench run SUITE` makes some")
        return max(known, key=lambda path: (path / "plan.parquet").stat().st_mtime if (path / "plan.parquet").exists() else 0.0)
    path = Path(results).expanduser()
    if path.exists():
        return path
    if (parent / path).exists():
        return parent / path
    raise StoreError(unknown_name("results directory", str(results), [path.name for path in known]))


def load_results(results: str | Path | None = None) -> Tables:
    """Returns the two tidy tables of a results directory or bundle, as pandas, made anew from the runs where these are there.

    Raises:
        StoreError: there is no such directory, or its tables cannot be read.
    """
    return store.read_tables(_refreshed(find(results)).path)


def report(results: str | Path | None = None) -> ReportFiles:
    """Writes tables, figures and report.html of a results directory, or of a bundle (unpacked beside it), and returns what was written.

    Raises:
        StoreError: there is no such directory, or something in it cannot be read or written.
    """
    from gapbench.report import write_report

    return write_report(_refreshed(find(results)).path)


def figures(results: str | Path | None = None) -> Figures:
    """Returns the figures of a results directory or bundle as matplotlib figures by name; writes none of them.

    A notebook shows all of them at once; `figures()["weight_distance"].savefig("mine.pdf")` keeps one.

    Raises:
        StoreError: there is no such directory, or its tables cannot be read.
    """
    from gapbench.report.figures import draw_figures

    return draw_figures(load_results(results))


def status(results: str | Path | None = None) -> Status:
    """Returns how far a results directory is, also while a suite trains in it; reads files only.

    Raises:
        StoreError: there is no such directory, or nothing was planned in it.
    """
    directory = ResultsDirectory.open_existing(find(results))
    planned = directory.plan()
    outcomes, updates = _progress(directory, planned.run_ids)
    cells = []
    for cell, members in by_cell(planned.runs).items():
        counts = Counter(outcomes[member.run_id] for member in members)
        done = sum(updates[member.run_id] for member in members)
        cells.append(CellStatus(cell, dict(counts), done, sum(member.spec.updates for member in members)))
    not_ok = {}
    for run_id, outcome in outcomes.items():
        stored = None if outcome is Outcome.OK else directory.run(run_id).outcome()
        if stored is not None:
            not_ok[run_id] = f"{stored.outcome.value}: {stored.reason}"
    return Status(planned.suite, directory.path, tuple(cells), directory.in_use(), not_ok, len(directory.attempts()))


def export(results: str | Path | None, bundle: str | Path) -> list[str]:
    """Packs a results directory into one small archive that `report` reads elsewhere; returns the names in it.

    Raises:
        StoreError: there is no such directory, or the bundle exists.
    """
    path = Path(bundle)
    store.check_bundle_name(path)
    directory = _refreshed(find(results))
    report(directory.path)
    return store.pack(directory, path)


def find_leftovers(results: str | Path | None = None, *, cache: bool = False) -> list[Leftover]:
    """Returns what `clean` would remove: old attempts, checkpoints of finished runs, half-written files, and the cache.

    Args:
        results: a results directory or the parent of several; default: `results/`.
        cache: also decoded data sets and measured speeds, which are made again when needed; downloads stay.
    """
    folder = Path(results) if results is not None else Path("results")
    found = [leftover for path in store.find_results(folder) for leftover in store.find_leftovers(ResultsDirectory.open_existing(path))]
    if cache:
        for path in sorted(cache_dir().glob("*")):
            if path.name != "data":
                found += store.folder_leftover(path, "cache")
    return found


def clean(leftovers: Sequence[Leftover]) -> int:
    """Removes leftovers and returns how many bytes that frees.

    Raises:
        StoreError: a suite is training in a directory that is to be cleaned, or something cannot be removed.
    """
    for path, group in _by_directory(leftovers).items():
        if path is None:
            store.remove(group)
            continue
        with ResultsDirectory.open_existing(path).locked():
            store.remove(group)
    return sum(leftover.size_bytes for leftover in leftovers)


def _by_directory(leftovers: Iterable[Leftover]) -> dict[Path | None, list[Leftover]]:
    groups: dict[Path | None, list[Leftover]] = {}
    for leftover in leftovers:
        holders = [path for path in leftover.path.parents if (path / store.SCHEMA_FILE).is_file()]
        groups.setdefault(holders[0] if holders else None, []).append(leftover)
    return groups


def _progress(directory: ResultsDirectory, run_ids: Iterable[str]) -> tuple[dict[str, Outcome], dict[str, int]]:
    outcomes, updates = {}, {}
    for run_id in run_ids:
        run = directory.run(run_id)
        outcomes[run_id] = run.state()
        updates[run_id] = run.updates_done()
    return outcomes, updates


def _refreshed(path: Path) -> ResultsDirectory:
    """Opens a results directory or bundle, with tables that hold what its runs hold now."""
    if path.is_file() and store.is_bundle(path):
        path = store.unpack(path)
    directory = ResultsDirectory.open_existing(path)
    if not directory.is_bundle:
        store.build_tables(directory)
    return directory
