"""What is done with results that are there: reading, reporting, packing, cleaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gapbench import store
from gapbench.core.errors import StoreError
from gapbench.core.paths import cache_dir
from gapbench.core.registry import unknown_name
from gapbench.store import Leftover, ResultsDirectory, Tables

if TYPE_CHECKING:
    from gapbench.report import ReportFiles
    from gapbench.report.figures import Figures
    from gapbench.report.tuning import TuningFiles


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
    return store.read_tables(open_refreshed(find(results)).path)


def report(results: str | Path | None = None) -> ReportFiles | TuningFiles:
    """Writes tables, figures and report.html of a results directory, or of a bundle (unpacked beside it), and returns what was written.

    Of the trials of a tuning, `<suite>.tune`, it writes their own table and figure.

    Raises:
        StoreError: there is no such directory, or something in it cannot be read or written.
    """
    from gapbench.report import write_report
    from gapbench.report.tuning import is_tuning, write_tuning_report

    path = open_refreshed(find(results)).path
    return write_tuning_report(path) if is_tuning(store.read_tables(path)) else write_report(path)


def figures(results: str | Path | None = None) -> Figures:
    """Returns the figures of a results directory or bundle as matplotlib figures by name; writes none of them.

    A notebook shows all of them at once; `figures()["weight_distance"].savefig("mine.pdf")` keeps one.

    Raises:
        StoreError: there is no such directory, or its tables cannot be read.
    """
    from gapbench.report.figures import draw_figures

    return draw_figures(load_results(results))


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


def open_refreshed(path: Path) -> ResultsDirectory:
    """Opens a results directory, or a bundle (unpacked beside it), with tables that hold what its runs hold now.

    Raises:
        StoreError: it is no results directory, or something in it cannot be read or written.
    """
    if path.is_file() and store.is_bundle(path):
        path = store.unpack(path)
    directory = ResultsDirectory.open_existing(path)
    if not directory.is_bundle:
        store.build_tables(directory)
    return directory


def _by_directory(leftovers: Iterable[Leftover]) -> dict[Path | None, list[Leftover]]:
    groups: dict[Path | None, list[Leftover]] = {}
    for leftover in leftovers:
        groups.setdefault(leftover.results, []).append(leftover)
    return groups
