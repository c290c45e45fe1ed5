"""An analysis as files: a page of all sentences, the frames, the figures; whole, the same again, and never written over."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from gapbench.core.errors import StoreError
from gapbench.report.pages import analysis_markdown, write_analysis
from gapbench.report.style import new_figure

SENTENCES = {"digits, mlp": ["One.", "Two."], "digits, other": ["Three."]}


def line() -> Figure:
    figure = new_figure(2.0, 2.0)
    figure.subplots().plot([0, 1], [0, 1])
    return figure


def broken() -> Figure:
    raise RuntimeError("a figure that cannot be drawn")


def test_the_page_has_every_sentence_under_its_panel_and_the_figures_below() -> None:
    assert analysis_markdown("walks", "mine", SENTENCES, ["one_line"]) == (
        "# mine: walks\n\n## digits, mlp\n\n- One.\n- Two.\n\n## digits, other\n\n- Three.\n\n![one line](one_line.svg)\n"
    )


def test_files_are_named_by_what_they_hold_and_the_same_again(tmp_path: Path) -> None:
    frames = {"numbers": pd.DataFrame({"name": ["a"], "value": [1 / 3]})}
    one, two = (write_analysis("walks", "mine", SENTENCES, frames, {"one_line": line}, tmp_path / name) for name in ("one", "two"))
    assert [path.name for path in one] == ["numbers.csv", "one_line.png", "one_line.svg", "walks.md"]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert (tmp_path / "one" / "numbers.csv").read_bytes() == b"name,value\na,0.33333333\n"


def test_nothing_is_written_over_and_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="exists already"):
        write_analysis("walks", "mine", SENTENCES, {}, {}, tmp_path / "kept")
    with pytest.raises(RuntimeError, match="cannot be drawn"):
        write_analysis("walks", "mine", SENTENCES, {}, {"broken": broken}, tmp_path / "new")
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "mine.txt"]
