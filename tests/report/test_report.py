from __future__ import annotations

import html
import io
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
from rich.console import Console

from gapbench.console.results import print_side_tables
from gapbench.core.errors import StoreError
from gapbench.report import ReportFiles, write_report
from gapbench.suite.schema import FIGURES, ReportSection
from tests.analysis import synthetic

GOLDEN = Path(__file__).with_name("golden_arms.md")
NAMES = ("weight_distance", "accuracy_vs_batch_size", "training_curves", "seeds", "accuracy_vs_train_loss")


def reported(folder: Path, tables: tuple[pd.DataFrame, pd.DataFrame], **settings: Any) -> ReportFiles:
    return write_report(synthetic.write(folder, *tables, **settings))


def test_arms_markdown_is_the_golden_file(tmp_path: Path) -> None:
    files = reported(tmp_path, synthetic.digits_suite(diverged=[("LB+LR", 2)]))
    assert (tmp_path / "tables" / "arms.md").read_text(encoding="utf-8") == GOLDEN.read_text(encoding="utf-8")
    assert files.arms.rows[0].cell.name == "SB"


def test_every_file_is_written_where_the_results_directory_has_its_place(tmp_path: Path) -> None:
    files = reported(tmp_path, synthetic.digits_suite(2, only=["SB", "LB"]))
    assert [path.relative_to(tmp_path).as_posix() for path in files.tables] == ["tables/arms.csv", "tables/arms.md", "tables/runs.csv"]
    assert [path.relative_to(tmp_path).as_posix() for path in files.figures] == [
        f"figures/{name}.{kind}" for name in NAMES for kind in ("svg", "png")
    ]
    assert files.page == tmp_path / "report.html"
    written = {path for folder in ("tables", "figures") for path in (tmp_path / folder).iterdir()}
    assert written == {*files.tables, *files.figures}  # no temporary ones
    for path in files.figures:
        start = path.read_bytes()[:200]
        assert start.startswith(b"\x89PNG") if path.suffix == ".png" else b"<?xml" in start


def test_a_rerun_gives_the_same_bytes_also_in_another_process(tmp_path: Path) -> None:
    files = reported(tmp_path, synthetic.digits_suite(2, only=["SB", "LB"]))
    before = {path: path.read_bytes() for path in (*files.tables, *files.figures, files.page)}
    code = f"from pathlib import Path; from gapbench.report import write_report; write_report(Path({str(tmp_path)!r}))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "MPLCONFIGDIR": str(tmp_path / "other-settings"), "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seeds": 1, "only": ["SB"]}, "There is only the reference cell"),
        ({"seeds": 1, "only": ["SB", "LB", "LB no norm"]}, "(one seed, no interval)"),
        ({"seeds": 3, "only": ["LB"]}, "There is no reference cell among these runs"),
        ({"seeds": 1, "only": ["SB", "LB"], "missing": [("SB", 0), ("LB", 0)]}, "No run is ok yet"),
        ({"seeds": 2, "only": ["SB", "LB"], "diverged": [("SB", 0), ("LB", 0), ("SB", 1), ("LB", 1)]}, "no run is ok yet"),
        ({"seeds": 0}, "No run is planned."),
    ],
)
def test_partial_results_are_reported_and_say_what_is_missing(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    files = reported(tmp_path, synthetic.digits_suite(**changes))
    assert sentence in (tmp_path / "tables" / "arms.md").read_text(encoding="utf-8")
    assert all(path.stat().st_size > 0 for path in files.figures)
    page = html.unescape(files.page.read_text(encoding="utf-8")).replace("\u00a0", " ")
    assert sentence.lower() in page.lower()  # a sentence that leads begins with a capital


def test_runs_without_any_curve_are_reported(tmp_path: Path) -> None:
    runs, curves = synthetic.digits_suite(2, only=["SB", "LB"])
    assert len(reported(tmp_path, (runs, curves.iloc[:0])).figures) == 2 * len(NAMES)


def test_csv_files_can_be_read_back_and_leave_out_the_bits_alone(tmp_path: Path) -> None:
    runs, curves = synthetic.digits_suite(3, only=["SB", "LB"])
    files = reported(tmp_path, (runs, curves))
    read = pd.read_csv(tmp_path / "tables" / "runs.csv")
    assert list(read.columns) == [name for name in runs.columns if name not in ("test_correct", "values")]
    assert read["test_accuracy"].tolist() == runs["test_accuracy"].tolist()
    arms = pd.read_csv(tmp_path / "tables" / "arms.csv")
    assert arms["cell"].tolist() == ["SB", "LB"]
    assert arms["batch_gap_pp"].tolist()[1] == pytest.approx(files.arms.frame()["batch_gap_pp"].tolist()[1])


def test_a_newer_schema_is_refused_in_words(tmp_path: Path) -> None:
    results = synthetic.write(tmp_path, *synthetic.digits_suite(1, only=["SB"]), schema=99)
    with pytest.raises(StoreError, match="newer gapbench"):
        write_report(results)
    assert not (tmp_path / "tables").exists()


def test_a_missing_table_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"runs\.parquet"):
        write_report(tmp_path)


def test_the_suite_may_ask_for_some_figures_only(tmp_path: Path) -> None:
    files = reported(tmp_path, synthetic.digits_suite(1, only=["SB"]), report={"figures": ["training_curves"]})
    assert [path.name for path in files.figures] == ["training_curves.svg", "training_curves.png"]


def test_a_suite_may_ask_for_every_figure_and_for_no_other() -> None:
    (allowed,) = get_args(ReportSection.model_fields["figures"].annotation)
    assert get_args(allowed) == FIGURES
    assert set(FIGURES) == {*NAMES, "factorial", "accuracy_vs_final_loss"}


def test_a_grid_of_two_levels_an_axis_is_reported_as_a_factorial_too(tmp_path: Path) -> None:
    rows = []
    for order, (ghost, budget) in enumerate(itertools.product(("off", "16"), ("epochs", "updates"))):
        axes = json.dumps({"ghost_batch_size": ghost, "budget": budget})
        for seed in range(4):
            accuracy = 0.9 + 0.01 * order + 0.001 * ((3 * seed + order * seed) % 5)
            rows.append(synthetic.run_row(f"{ghost}, {budget}", seed, arm="", cell_order=order, axes=axes, test_accuracy=accuracy))
    files = reported(tmp_path, (pd.DataFrame(rows), synthetic.tables([], [])[1]))
    assert [path.name for path in files.tables] == ["arms.csv", "arms.md", "runs.csv", "factorial.csv", "factorial.md"]
    assert {path.name for path in files.figures} >= {"factorial.svg", "factorial.png"}
    assert len(pd.read_csv(tmp_path / "tables" / "factorial.csv")) == 6
    assert "| ghost batch size off → 16 " in (tmp_path / "tables" / "factorial.md").read_text()
    assert "Effects of the grid's axes and their interactions" in html.unescape(files.page.read_text())


def test_importing_the_report_imports_nothing_heavy_and_writing_it_no_torch(tmp_path: Path) -> None:
    results = synthetic.write(tmp_path, *synthetic.digits_suite(1, only=["SB"]))
    heavy = ("torch", "pandas", "scipy", "matplotlib", "pyarrow")
    code = (
        f"import sys; from pathlib import Path; import gapbench.report; print([name for name in {heavy} if name in sys.modules]); "
        f"gapbench.report.write_report(Path({str(results)!r})); print([name for name in ('torch', 'torchvision') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[:2] == ["[]", "[]"]
    assert found.stderr == ""


@pytest.fixture(scope="module")
def presets(tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    """The report of a suite that compares presets."""
    return reported(tmp_path_factory.mktemp("presets"), synthetic.preset_suite())


def test_side_tables_are_files_and_sections_of_the_page(presets: ReportFiles) -> None:
    assert [table.name for table in presets.side] == ["presets", "momentum_reset"]
    page = presets.page.read_text(encoding="utf-8")
    for table in presets.side:
        numbers = pd.read_csv(presets.page.parent / "tables" / f"{table.name}.csv")
        assert len(numbers) == len(table.rows)
        text = (presets.page.parent / "tables" / f"{table.name}.md").read_text(encoding="utf-8")
        assert all(f"- {sentence}\n" in text for sentence in table.sentences)
        assert f'<section id="{table.name}"' in page
        assert f'href="#{table.name}"' in page
        plain = html.unescape(page).replace("\u00a0", " ")
        assert all(sentence in plain for sentence in (*table.sentences, *table.notes))


def test_every_column_is_on_the_page_of_numbers(presets: ReportFiles) -> None:
    page = (Path(__file__).parents[2] / "docs" / "numbers.md").read_text(encoding="utf-8")
    for table in presets.side:
        assert [column for column in table.frame().columns if f"`{column}`" not in page] == []


def test_the_terminal_shows_their_words_and_where_the_table_is(presets: ReportFiles) -> None:
    out = io.StringIO()
    print_side_tables(Console(file=out, width=200), presets.side)
    text = " ".join(out.getvalue().split())
    assert "What the preset alone changes (tables/presets.md)" in text
    assert "LB: preset code reaches 2." in text
    assert "What the momentum reset costs (tables/momentum_reset.md)" in text


def test_a_suite_without_them_has_neither_files_nor_sections(tmp_path: Path) -> None:
    files = reported(tmp_path, synthetic.digits_suite(2, only=["SB", "LB"]))
    assert files.side == ()
    assert not (tmp_path / "tables" / "presets.md").exists()
    assert 'id="presets"' not in files.page.read_text(encoding="utf-8")
