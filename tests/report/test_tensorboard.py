"""Event files hold every value of curves.parquet, as TensorBoard's own reader sees it; without the package, the error says what to do."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from gapbench.report import tensorboard
from gapbench.store import read_tables
from tests.analysis import synthetic

NEEDS = "tensorboard is not installed: pip install 'gapbench[tensorboard]'"


@pytest.fixture
def tables(tmp_path):
    return read_tables(synthetic.write(tmp_path / "results", *synthetic.digits_suite(2, only=["SB", "LB"], diverged=[("LB", 1)])))


def test_tensorboard_reads_every_value_back(tables, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=NEEDS)
    assert tensorboard.write_tensorboard(tables, tmp_path / "events") == 4
    folders = sorted(str(path.relative_to(tmp_path / "events")) for path in (tmp_path / "events").glob("*/*"))
    assert folders == ["LB/seed-0", "LB/seed-1", "SB/seed-0", "SB/seed-1"]
    for row in tables.runs.itertuples():
        events = accumulator.EventAccumulator(str(tmp_path / "events" / row.cell / f"seed-{row.seed}"), size_guidance={"scalars": 0})
        events.Reload()
        curve = tables.curves[tables.curves["run_id"] == row.run_id]
        expected: dict[str, list[tuple[int, float]]] = {}
        for update, metric, layer, value in curve[["update", "metric", "layer", "value"]].itertuples(index=False):
            expected.setdefault(f"{metric}/{layer}" if layer else metric, []).append((update, pytest.approx(value, rel=1e-6)))
        found = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
        assert found == expected
        assert "run/text_summary" in events.Tags()["tensors"]


def test_values_that_are_not_finite_stay_what_they_are(tables, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=NEEDS)
    tables.curves.loc[0, "value"] = math.inf
    tensorboard.write_tensorboard(tables, tmp_path / "events")
    events = accumulator.EventAccumulator(str(tmp_path / "events" / "SB" / "seed-0"))
    events.Reload()
    assert math.isinf(events.Scalars(tables.curves["metric"][0])[0].value)


def test_labels_become_folders_of_their_own(tables):
    tables.runs["cell"] = ["a/b: c", "a/b; c", "..", "ü"]
    names = [name for _, name in tensorboard._folders(tables)]
    assert names == ["a_b_c/seed-0", "a_b_c-2/seed-1", "cell/seed-0", "ü/seed-1"]
    tables.runs["cell"], tables.runs["seed"] = "x", 0
    assert [name for _, name in tensorboard._folders(tables)] == ["x/seed-0", "x/seed-0-2", "x/seed-0-3", "x/seed-0-4"]
    assert all(not Path(name).is_absolute() for name in names)


def test_without_the_package_the_error_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(tensorboard.TensorboardError, match=r"pip install 'gapbench\[tensorboard\]'"):
        tensorboard.writer_class()


def test_importing_the_module_imports_no_torch():
    code = "import sys, gapbench.report.tensorboard; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
