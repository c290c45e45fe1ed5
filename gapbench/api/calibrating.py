"""Calibrating: a short measurement of this machine, so that plans of a suite say what it takes here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gapbench.api.running import Titles, check_data
from gapbench.api.selection import select
from gapbench.core.paths import data_dir_default
from gapbench.execution import Measured, Settings, choose_devices, measure
from gapbench.store import ResultsDirectory


def calibrate(
    suite: str | Path,
    *,
    settings: Mapping[str, str] | None = None,
    only: str | None = None,
    devices: str | None = None,
    slots: int | None = None,
    results: str | Path = "results",
    data_dir: str | Path | None = None,
    offline: bool = False,
    plugins: Iterable[str | Path] = (),
    say: Callable[[str], None] = lambda _text: None,
) -> Measured:
    """Measures for a few minutes how fast what is left of a suite trains here. Later plans, and `run`, then predict from it.

    It keeps every slot busy, as training does; what else runs meanwhile makes it slower than it is. Trains nothing and stores nothing but
    what it found, in the cache.

    Args:
        suite: path of a suite file, or name of a shipped suite.
        settings: TOML values by key.
        only: measures only programs of what matches.
        devices: such as "cuda:0" or "cpu"; default: all GPUs, else the CPU.
        slots: runs that train at a time.
        results: parent of the suite's results directory, to see what is done already.
        data_dir: where data sets are; default: GAPBENCH_DATA, else downloads into the cache.
        offline: never download.
        plugins: Python files with the user's own components.
        say: receives what is about to be done, and what could not be.

    Raises:
        GapbenchError: the suite is wrong, a device or data set is missing, or no measuring process can start.
    """
    selection = select(suite, settings=settings, only=only, plugins=plugins)
    whole, specs = selection.whole, selection.specs
    how = Settings(
        devices=choose_devices(devices),
        slots=slots,
        data_dir=Path(data_dir).expanduser() if data_dir else data_dir_default(),
        offline=offline,
        suite_dir=whole.path.parent,
        plugins=selection.plugins,
    )
    directory = ResultsDirectory(Path(results) / whole.name, whole.name)
    left = [run_id for run_id in selection.run_ids if directory.run(run_id).outcome() is None]
    if not left:
        say("nothing is left to train, so nothing was measured")
        return Measured(0, {})
    check_data([specs[run_id] for run_id in left], how)
    found = measure(specs, left, how, titles=Titles(whole.runs), say=say)
    for title, reason in found.left_out.items():
        say(f"not measured: {title}: {reason}")
    return found
