"""What people see of the bench: the console at any width, the figure, the command."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from gapbench import catalog
from gapbench.bench import BenchReport, Missing
from gapbench.bench.cases import Comparison
from gapbench.bench.figure import bench_figure
from gapbench.bench.records import Records
from gapbench.bench.summary import summarize
from gapbench.cli import app
from gapbench.console import print_bench
from gapbench.report.style import house_style


@pytest.fixture
def report(tmp_path, case, timings) -> BenchReport:
    case = replace(case, comparisons=(*case.comparisons, Comparison("ours", (), 0.45, "share")))
    with Records.open(tmp_path) as kept:
        for number in range(3):
            kept.add_round(timings(number, [3000.5 + number, 1000, 1200, 3000]))
        found = summarize(kept.table, {}, {case.name: case})
    return BenchReport(found.rows, (Missing("tiny-cuda", "", "", "no CUDA device here"),), ("a note",))


def shown(report: BenchReport, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_bench(console, report, Path("results/bench"))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_fits_any_width(report, width):
    text = shown(report, width)
    assert max(len(line.rstrip()) for line in text.splitlines()[:-1]) <= width
    for part in ("ours / quick", "2.50 [2.50, 2.50]", ">= 2", "reached", "not measured here (no CUDA device here): tiny-cuda"):
        assert part in text.replace("\n", " ").replace("  ", " ") or part in text


def test_a_wide_terminal_shows_speeds_rounds_and_spread(report):
    assert "3,002 / 1,200" in shown(report, 120)
    assert "A/A" in shown(report, 120)
    assert "3,002" not in shown(report, 80)


def test_the_figure_shows_every_row_and_goal(report):
    with house_style():
        figure = bench_figure(report)
        figure.canvas.draw()
    speedup, cost, share, legend = figure.axes
    assert [label.get_text() for label in speedup.get_yticklabels()] == ["tiny: ours / quick"]
    assert [label.get_text() for label in cost.get_yticklabels()] == ["tiny: ours / slow"]
    assert speedup.get_xscale() == "log"
    assert {text.get_text() for text in speedup.texts} == {"2.50 [2.50, 2.50]", ">= 2"}
    assert "goal" in {text.get_text() for text in legend.get_legend().get_texts()}
    assert share.get_xlabel() == "share of the roofline"


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_list_names_all_cases_and_why_some_cannot_be_measured():
    catalog.models().remove("vgg")
    text = call("--list")
    for part in ("digits-stack", "ours / memory >= 4", "roofline-vgg16-cuda", 'the catalog has no model "vgg" yet', "no goal set"):
        assert part in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet4"], 'did you mean "resnet44"'),
        (["--device", "tpu"], "--device tpu: should be cpu or cuda"),
        (["--rounds", "-1"], "Invalid value"),
        (["--seconds", "0"], "Invalid value"),
    ],
)
def test_wrong_input_is_one_clear_error(arguments, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert message in call(*arguments, code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_loaded_machine_is_an_error_with_a_remedy(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["gapbench.bench.compare"], "load_of_others", lambda: 1.3)
    text = call("feed", code=2)
    assert "other programs keep 1.3 cores of this machine busy" in text
    assert "--anyway" in text
