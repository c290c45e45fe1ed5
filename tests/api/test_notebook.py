"""What a notebook needs: frames and figures as objects, quiet functions, short reprs, and training without a main guard."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from gapbench import api

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import gapbench
from gapbench import api

done = api.run("small.toml", devices="cpu")            # no `if __name__ == "__main__"`: workers never import this file
again = api.run("small.toml", devices="cpu", observe=lambda notice: None)
assert (done.exit_status, again.exit_status) == (0, 0)
assert len(done.frame()) == 4 and set(done.frame().outcome) == {"ok"}
assert [*done.arms.frame().cell] == ["SB", "LB"]
assert set(done.figures()) == {"weight_distance", "accuracy_vs_batch_size", "training_curves", "seeds", "accuracy_vs_train_loss"}
assert api.status("small").frame()["ok"].sum() == 4
print("the script's own words")
"""

OWN_COMPONENT = """
import gapbench
from gapbench import api

@gapbench.model(name="own")
def own(input_shape, classes): ...

try:
    api.run("small.toml", settings={"model": '{ name = "own" }'}, devices="cpu")
except gapbench.core.errors.GapbenchError as error:
    print(error)
"""


@pytest.fixture
def folder(suite: Path) -> Path:
    suite.write_text(suite.read_text() + "ghost_batch_size = 16\n")
    return suite.parent


@pytest.fixture
def reference(folder: Path) -> str:
    """Results with curves."""
    shutil.copytree(ROOT / "results" / "reference" / "quickstart", folder / "results" / "quickstart")
    return "quickstart"


def script(folder: Path, text: str) -> str:
    (folder / "script.py").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "script.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_script_without_a_main_guard_trains_and_nothing_prints_but_itself(folder):
    assert script(folder, SCRIPT) == "the script's own words\n"


def test_a_component_of_the_notebook_itself_is_refused_in_words(folder):
    said = script(folder, OWN_COMPONENT)
    assert said.startswith('model "own" is defined in module __main__, which worker processes do not import')
    assert not (folder / "results").exists()


@contextlib.contextmanager
def no_running_loop() -> Iterator[None]:
    """The browser that tests of pages share in this process keeps an event loop of its own, suspended, in the main thread."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)


@pytest.mark.usefixtures("fake_worker")
def test_run_works_in_a_thread_and_under_an_event_loop(folder):
    reports = []
    thread = threading.Thread(target=lambda: reports.append(api.run("small.toml", results="a")))
    thread.start()
    thread.join()

    async def cell() -> api.RunReport:  # a notebook's cell runs while its event loop does
        return api.run("small.toml", results="b")

    with no_running_loop():
        reports.append(asyncio.run(cell()))
    assert [report.exit_status for report in reports] == [0, 0]


def test_suites_plans_and_status_are_frames(folder):
    suite = api.load_suite("small.toml")
    frame = suite.frame()
    assert [*frame.cell] == ["SB", "SB", "LB", "LB"]
    assert {"run_id", "batch_size", "learning_rate", "updates", "model", "model_options"} <= {*frame.columns}
    assert frame.ghost_batch_size.isna().tolist() == [True, True, False, False]
    plan = api.plan(suite.path, devices="cpu")
    assert [*plan.frame().cell] == ["SB", "LB"]
    assert plan.frame().runs.sum() == plan.runs
    assert [*plan.frame().examples] == [*plan.frame().updates * plan.frame().batch_size]
    assert 0 < plan.frame().seconds.sum() < plan.device_seconds  # which counts the start of the workers, too
    assert repr(suite) == "Suite('small': 4 runs in 2 cells, 0 dropped)"
    assert repr(plan).startswith("Plan('small': 4 of 4 runs left")
    assert "<table" in plan._repr_html_()
    assert "warning: " in plan._repr_html_()


@pytest.mark.usefixtures("fake_worker", "no_figures")
def test_what_ran_is_a_frame(folder, capfd):
    done = api.run("small.toml")
    assert [*done.frame().columns[:4]] == ["run_id", "suite", "cell", "cell_order"]
    assert repr(done).endswith("4 ok)")
    assert "<table" in done._repr_html_()
    status = api.status("small")
    assert status.frame()[["cell", "ok", "crashed"]].to_dict("list") == {"cell": ["SB", "LB"], "ok": [2, 2], "crashed": [0, 0]}
    assert "230 of 230 updates, done" in repr(status)
    assert "<table" in status._repr_html_()
    assert capfd.readouterr() == ("", "")


def test_reports_and_figures_are_objects(reference, capfd):
    tables = api.load_results(reference)
    assert repr(tables) == f"Tables('quickstart': runs {tables.runs.shape}, curves {tables.curves.shape})"
    figures = api.figures(reference)
    before = sorted(Path("results").rglob("*"))
    assert [*figures] == ["weight_distance", "accuracy_vs_batch_size", "training_curves", "seeds", "accuracy_vs_train_loss"]
    assert all(isinstance(figure, Figure) for figure in figures.values())
    assert figures["weight_distance"] is figures["weight_distance"]
    assert figures._repr_html_().count("<svg") == 5
    assert sorted(Path("results").rglob("*")) == before
    files = api.report(reference)
    assert isinstance(files.arms.frame(), pd.DataFrame)
    assert len(files.arms.frame()) == 8
    assert "batch gap, pp" in files._repr_html_()
    assert repr(files).startswith("ReportFiles(3 tables, ")
    assert repr(files.arms).startswith("ArmsTable(8 cells: ")
    assert capfd.readouterr() == ("", "")


def test_lists_become_frames():
    models = api.to_frame(api.listing("models"))
    assert [*models.columns] == ["name", "summary", "options", "source"]
    assert "resnet" in set(models.name)
    assert api.to_frame([]).empty
    with pytest.raises(TypeError, match="not int"):
        api.to_frame([3])
