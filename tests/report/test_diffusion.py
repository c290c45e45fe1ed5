"""Figures show what the analysis found, and sketches stay out of files for others."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest

from gapbench.analysis.diffusion.study import study
from gapbench.analysis.frames import Study
from gapbench.report import tensorboard
from gapbench.report.diffusion import COLOURED, FREE, GUIDE, OTHERS, diffusion_drawings
from gapbench.report.figures import Figures
from gapbench.report.pages import write_analysis
from gapbench.report.style import PAPER
from gapbench.report.tables import curves_csv
from gapbench.store.tables import Tables
from tests.analysis.diffusion.made import Suite, three_cells
from tests.report.drawn import entries, lines, texts

FIGURES = ["drift_and_spread", "local_exponents", "collapse", "weight_cosine"]


def analysed(suite: Suite) -> Study:
    return study("made", *suite.tables(), suite.specs)


@pytest.fixture(scope="module")
def found() -> Study:
    return analysed(three_cells())


@pytest.fixture(scope="module")
def figures(found: Study) -> Figures:
    return Figures(diffusion_drawings(found.parts))


def test_the_numbers_of_the_frames_are_what_is_drawn(found: Study, figures: Figures) -> None:
    assert [*figures] == FIGURES
    walks = found.frames["walks"]
    for place, quantity in enumerate(("total", "drift", "spread")):
        drawn = lines(figures["drift_and_spread"].axes[place])["LB+LR (B 512, 0.566)"]
        rows = walks[(walks.cell == "LB+LR") & (walks.quantity == quantity) & walks["update"].isin(drawn.get_xdata())]
        assert len(rows) > 40
        assert drawn.get_xdata() == pytest.approx(rows["update"].to_numpy(float))
        assert drawn.get_ydata() == pytest.approx(rows["value"].to_numpy())
    drawn = lines(figures["local_exponents"].axes[1])["SB (B 16, 0.1)"]
    rows = walks[(walks.cell == "SB") & (walks.quantity == "spread")].dropna(subset="local_exponent")
    assert drawn.get_ydata() == pytest.approx(rows["local_exponent"].to_numpy())


def test_the_common_window_is_shaded_and_a_free_walk_drawn_beside(found: Study, figures: Figures) -> None:
    axes = figures["local_exponents"].axes[0]
    (shade,) = axes.patches
    common = found.parts[0].common
    assert common is not None
    assert shade.get_extents().transformed(axes.transData.inverted()).intervalx == pytest.approx([common.first, common.last])
    assert lines(figures["local_exponents"].axes[0])["free walk: 0.5"].get_ydata()[0] == 0.5
    guide = lines(figures["drift_and_spread"].axes[2])["square root"]
    x, y = np.log(guide.get_xdata()), np.log(guide.get_ydata())
    assert (y[-1] - y[0]) / (x[-1] - x[0]) == pytest.approx(0.5)


def test_without_sketches_there_are_distances_and_a_sentence_in_place_of_the_collapse() -> None:
    found = Figures(diffusion_drawings(analysed(Suite().cell("SB", sketched=False, weight_decay=1e-4)).parts))
    assert len(found["drift_and_spread"].axes) == len(found["local_exponents"].axes) == 1
    assert "No run has measured this yet." in texts(found["collapse"])
    assert any("Cosines are derived" in text for text in texts(found["weight_cosine"]))


def test_its_files_are_the_same_again_and_hold_the_frames(found: Study, tmp_path: Path) -> None:
    first, second = (
        write_analysis("diffusion", found.suite, found.sentences, found.frames, diffusion_drawings(found.parts), tmp_path / name)
        for name in ("one", "two")
    )
    names = sorted(path.name for path in first)
    assert names == sorted(
        ["diffusion.md", *(f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")), *(f"{name}.csv" for name in found.frames)]
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    page = (tmp_path / "one" / "diffusion.md").read_text()
    assert all(f"- {sentence}\n" in page for sentence in found.sentences["digits, mlp, recipe digits"])
    table = pd.read_csv(tmp_path / "one" / "walks.csv")
    assert table["value"].to_numpy() == pytest.approx(found.frames["walks"]["value"].to_numpy(float), rel=1e-6, nan_ok=True)


def test_sketches_stay_out_of_exported_curves() -> None:
    _, curves = three_cells().tables()
    assert "displacement_sketch" in set(curves["metric"])
    assert "displacement_sketch" not in curves_csv(curves)


def test_sketches_stay_out_of_event_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = MagicMock()
    suite = Suite().cell("SB", orders=1)
    monkeypatch.setattr(tensorboard, "writer_class", lambda: writer)
    assert tensorboard.write_tensorboard(Tables(*suite.tables(), "made", {}), tmp_path) == 1
    tags = {call.args[0] for call in writer.return_value.add_scalar.call_args_list}
    assert tags == {"weight_distance", "weight_norm", "clipped_share"}


def test_of_many_cells_the_first_have_colours_and_the_others_are_gray() -> None:
    suite = Suite().cell("SB")
    for number in range(9):
        suite = suite.cell(f"LB {number}", 512, 0.1 + 0.05 * number)
    drawings = Figures(diffusion_drawings(analysed(suite).parts))
    for name in ("drift_and_spread", "local_exponents", "collapse"):
        (labels,) = [[text for text in one if text not in (GUIDE, FREE)] for one in entries(drawings[name])]
        assert labels == ["SB (B 16, 0.1)", *(f"LB {number} (B 512, {0.1 + 0.05 * number:.3g})" for number in range(COLOURED - 1)), OTHERS]
    colours = [line.get_color() for line in drawings["collapse"].axes[0].get_lines()]
    assert colours.count(PAPER) == 10 - COLOURED
