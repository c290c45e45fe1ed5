"""The suite that a search ends in: it extends the one that was tuned, and overrides what was searched, cell by cell."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gapbench.analysis.formats import counted
from gapbench.core.errors import GapbenchError, StoreError
from gapbench.suite import RunSpec, Suite, load_suite, shipped_suites
from gapbench.suite.schema import SEEDS
from gapbench.suite.source import SECTIONS
from gapbench.suite.toml import dumps
from gapbench.suite.tunable import TunableCell
from gapbench.tuning.results import CellResult, Tuned
from gapbench.tuning.search import Point
from gapbench.tuning.trials import Space, Trials


def tuned_name(suite: str) -> str:
    """Returns the name of the tuned suite, and of its results directory."""
    return f"{suite}-tuned"


def tuned_suite(trials: Trials, tuned: Tuned, path: Path) -> str:
    """Returns the text of the tuned suite.

    A cell with several rates that cannot be told apart has an arm at each end of that range, an alternative to the cell.

    Args:
        trials: the search.
        tuned: what it found; every cell has its best values.
        path: where the text will stand, for the path of the suite that it extends.
    """
    tunable = trials.tunable
    document = tunable.suite.document
    data: dict[str, Any] = {
        "schema": 1,
        "name": tuned_name(tunable.suite.name),
        "summary": f"{tunable.suite.name} with tuned values",
        "extends": _extended(tunable.suite.path, path),
        **tunable.changed,
    }
    arms, overrides = list(document.get("arm", [])), list(document.get("override", []))
    alone = _is_one_cell(document)
    beside: list[dict[str, Any]] = []
    for space, result, best in _found(trials, tuned):
        first, ends = space.cells[0], _ends(result, best)
        for cell in space.cells:
            where = dict(cell.where)
            if ends and alone:  # arms beside it would take the place of a suite's only cell
                arms.append({"label": cell.name})
                where = {"arm": cell.name}
            overrides.append({"where": where, "set": trials.values(space, best), "tuned": True})
        for end in ends:  # for the first of cells that share a search: the others would train the same runs
            label = f"{first.name}, rate {trials.rate(space, end.power):g}"
            beside.append({**_arm(document, first), "label": label, "alternative_to": first.name})
            overrides.append({"where": {"arm": label}, "set": trials.values(space, end), "tuned": True})
    if beside:
        data["arm"] = [*arms, *beside]
    data["override"] = overrides
    ordered = {key: data[key] for key in SECTIONS if key in data}
    return f"{_comment(tuned)}\n{dumps(ordered)}"


def check_writable(path: Path) -> None:
    """Raises what would keep a tuned suite from being written, before anything trains.

    Raises:
        StoreError: there is a file already, or no folder for it.
    """
    if path.exists() or path.is_symlink():
        raise StoreError(
            f"{path}: exists already and is not written over; name another file with --output "
            "(the trials are kept: tuning again writes the same values without training)"
        )
    if not path.absolute().parent.is_dir():
        raise StoreError(f"{path}: there is no folder {path.parent}; make it, or name another file with --output")


def write_tuned_suite(trials: Trials, tuned: Tuned, path: Path, *, plugins: tuple[str, ...] = ()) -> Suite:
    """Writes the tuned suite into a new file, and returns it as loaded from there.

    Raises:
        StoreError: the file exists already or cannot be written.
        GapbenchError: the suite cannot be expressed so; then there is no file.
    """
    check_writable(path)
    text = tuned_suite(trials, tuned, path)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error}); name another file with --output") from error
    try:
        suite = load_suite(path, plugins=plugins)
        _check_meaning(suite, trials, tuned)
    except GapbenchError:
        path.unlink()
        raise
    return suite


def _check_meaning(suite: Suite, trials: Trials, tuned: Tuned) -> None:
    """Raises GapbenchError where a cell of the written suite does not train with exactly its best values."""
    specs = {run.labels.cell: run.spec for run in suite.runs}
    for space, _, best in _found(trials, tuned):
        wanted = _searched(trials.of_point(space.title, best, "check")[0].spec)
        for cell in space.cells:
            if cell.name not in specs or _searched(specs[cell.name]) != wanted:
                raise GapbenchError(
                    f"the values found for {cell.name} cannot be set by an [[override]] of that cell alone; give it an [[arm]] of its own"
                )


def _searched(spec: RunSpec) -> tuple[Any, ...]:
    """Returns what an override sets; a warmup of a least number of updates is another fraction of a longer run."""
    return spec.learning_rate, spec.weight_decay, spec.optimizer.option("momentum")


def _found(trials: Trials, tuned: Tuned) -> Iterator[tuple[Space, CellResult, Point]]:
    """Yields every space with what was found in it, and its best point, which every one has."""
    results = {result.title: result for result in tuned.cells}
    for title, space in trials.spaces.items():
        best = results[title].best
        assert best is not None
        yield space, results[title], best


def _is_one_cell(document: Mapping[str, Any]) -> bool:
    """Whether a suite has neither arms nor axes but seeds."""
    return not document.get("arm") and all(axis in SEEDS for axis in document.get("grid", {}))


def _ends(result: CellResult, best: Point) -> list[Point]:
    """Returns the ends of the rates that cannot be told from the best one, without the best one itself."""
    return [end for end in dict.fromkeys(result.ends or ()) if end != best]


def _arm(document: Mapping[str, Any], cell: TunableCell) -> dict[str, Any]:
    """Returns an [[arm]] that trains as a cell does: its arm's fields, and its values of the grid's axes."""
    own: dict[str, Any] = next((arm for arm in document.get("arm", []) if cell.where["arm"] and arm.get("label") == cell.where["arm"]), {})
    return {**own, **{axis: value for axis, value in cell.where.items() if axis != "arm"}}


def _extended(suite: Path, path: Path) -> str:
    """Returns how the new file names the suite that it extends: a shipped one by its name, another by its path from there."""
    for name, shipped in shipped_suites().items():
        if shipped.resolve() == suite.resolve():
            return name
    try:
        return Path(os.path.relpath(suite.resolve(), path.absolute().parent.resolve())).as_posix()
    except ValueError:  # another drive
        return suite.resolve().as_posix()


def _comment(tuned: Tuned) -> str:
    """Returns the head of the file: how the values were found, and which of them are no optimum inside what was tried."""
    cells = tuned.cells
    counts = sorted({cell.trials for cell in cells})
    seeds = f"{counted(len(tuned.seeds), 'seed')} and {counted(tuned.folds, 'fold')}"
    searched = ", ".join(name.replace("_", " ") for name in tuned.search)
    lines = [
        f"Written by `gapbench tune`: {searched} of {tuned.suite} tuned, {' or '.join(map(str, counts))} points a cell with {seeds} each;",
        f"the best {tuned.rules.finalists} of each were tried again on {len(tuned.check_seeds)} fresh seeds. Scored on a held-out part of "
        f"the training set ({tuned.holdout:g} of it); the test set was left alone.",
        "Arms with alternative_to train at the ends of the rates that could not be told from the best one: gaps hold whichever is right.",
    ]
    lines += [
        f"{cell.title}: the best rate is the {_end(cell)} that was tried, so there may be a better one"
        for cell in cells
        if cell.interior is False
    ]
    return "".join(f"# {line}\n" for line in lines)


def _end(cell: CellResult) -> str:
    rates = [tried.rate for tried in cell.tried]
    return "lowest" if cell.rate == min(rates) else "highest"
