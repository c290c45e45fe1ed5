"""Results that go elsewhere: copied, merged, exported and compared, they say the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from gapbench import api
from gapbench.api.reporting import ExportError
from gapbench.core.errors import StoreError

pytestmark = pytest.mark.usefixtures("fake_worker")


def reported(folder: Path) -> dict[str, bytes]:
    """Every file that `report` makes."""
    files = [*folder.glob("tables/*"), *folder.glob("figures/*"), *folder.glob("report.html")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_directory_copied_to_another_machine_reports_the_same_bytes(suite, tmp_path):
    original = api.run(suite).results
    api.report(original)
    expected = reported(original)
    copy = shutil.copytree(original, tmp_path / "elsewhere" / "another name")
    for name in expected:
        (copy / name).unlink()
    original.rename(tmp_path / "gone")
    api.report(copy)
    assert reported(copy) == expected
    assert {Path(name).parts[0] for name in expected} >= {"tables", "figures"}


def test_two_machines_merged_report_what_one_would_have(suite, tmp_path, no_figures):
    whole = api.run(suite).results
    for machine, arm in (("one", "SB"), ("two", "LB")):
        api.run(suite, only=f"arm={arm}", results=machine)
    merged = api.merge(["one/small", Path("two/small")], "both/small")
    api.report(merged.path)
    # The fake engine's numbers depend on the run alone; seconds and dates do not.
    assert (merged.path / "tables" / "arms.md").read_text() == (whole / "tables" / "arms.md").read_text()
    assert not api.run(suite, results="both").interrupted
    comparison = api.compare(whole, merged.path)
    assert {cell.verdict for cell in comparison.cells} == {"identical"}
    assert api.comparison_failures(comparison, "difference") == []


def test_a_bundle_compares_like_the_directory_it_was_made_of(suite, no_figures):
    api.run(suite)
    api.export("small", "b.zip")
    assert api.comparison_failures(api.compare("small", "b.zip"), "difference") == []


def test_two_variants_are_compared_by_label_and_say_what_was_changed(suite, no_figures):
    before = api.run(suite).results
    after = api.run(suite, settings={"learning_rate": "0.2"}).results
    comparison = api.compare(before, after)
    assert [dict(cell.values) for cell in comparison.cells] == [{"learning_rate": ("0.1", "0.2")}] * 2
    assert api.comparison_failures(comparison, "difference")


def test_the_kinds_of_failure_are_kept_apart(suite, monkeypatch, no_figures):
    first = api.run(suite).results
    monkeypatch.setattr("gapbench.__version__", "9.9.9")
    second = api.run(suite, results="later").results
    comparison = api.compare(first, second)
    assert api.comparison_failures(comparison, "regression") == api.comparison_failures(comparison, "difference") == []
    assert any("gapbench is" in text for text in api.comparison_failures(comparison, "environment"))


def test_every_form_is_written_at_once_and_can_be_read_back(suite, no_figures):
    api.run(suite)
    done = api.export("small", "away/b.tar.gz", csv="away/csv", latex="away/arms.tex")
    assert [str(one.path) for one in done] == ["away/b.tar.gz", "away/csv", "away/arms.tex"]
    tables = api.load_results("small")
    assert pd.read_csv("away/csv/runs.csv")["test_accuracy"].tolist() == tables.runs["test_accuracy"].tolist()
    curves = pd.read_csv("away/csv/curves.csv", keep_default_na=False)
    assert curves["value"].tolist() == tables.curves["value"].tolist()
    assert curves.columns.tolist() == tables.curves.columns.tolist()
    assert pd.read_csv("away/csv/arms.csv")["cell"].tolist() == ["SB", "LB"]
    assert r"\toprule" in Path("away/arms.tex").read_text(encoding="utf-8")


def test_event_files_are_written(suite, no_figures):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install 'gapbench[tensorboard]'")
    api.run(suite)
    (done,) = api.export("small", tensorboard="events")
    assert done.what.startswith("4 runs")
    assert len(list(Path("events").glob("*/seed-*/events.out.tfevents.*"))) == 4


@pytest.mark.parametrize("form", ["bundle", "csv", "latex", "tensorboard"])
def test_nothing_is_written_over_and_nothing_beside_it_either(suite, form, no_figures):
    api.run(suite)
    targets = {"bundle": "x.zip", "csv": "csv", "latex": "x.tex", "tensorboard": "events"}
    Path(targets[form]).write_text("precious")
    with pytest.raises(StoreError, match="exists already"):
        api.export("small", **targets)
    assert [name for name in targets.values() if Path(name).exists()] == [targets[form]]
    assert Path(targets[form]).read_text() == "precious"


def test_a_form_has_to_be_named_and_each_its_own_place(suite, no_figures):
    api.run(suite)
    with pytest.raises(ExportError, match="--bundle FILE, --csv DIR, --latex FILE, --tensorboard DIR"):
        api.export("small")
    with pytest.raises(ExportError, match="the same"):
        api.export("small", csv="x", latex="./x")
