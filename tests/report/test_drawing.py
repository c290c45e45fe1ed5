"""Where things stand: a band for each panel, its legend beside it, the caption below all and within the figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from gapbench.report.drawing import PAPER_LABEL, captioned_figure, grid_figure, panel_figure, sentence_figure
from gapbench.report.marks import CAPTION
from tests.report.drawn import entries, texts

LONG = "What lines, bands and marks are, in more words than one line of a figure holds. " * 4


@dataclass(frozen=True)
class Thing:
    """Something with a title, as a panel has one."""

    title: str
    measured: bool = True


def draw(part: SubFigure, thing: Thing) -> Sequence[Axes]:
    axes = part.subplots(1, 2)
    for one in axes:
        one.plot([0, 1], label=PAPER_LABEL)
        one.plot([0, 1], label=f"line of {thing.title}")
    return list(axes)


def made(things: Sequence[Thing]) -> Figure:
    return panel_figure(
        things,
        4.0,
        lambda _: 2.0,
        lambda thing: thing.measured,
        draw,
        LONG,
        lambda some: [f"line of {thing.title}" for thing in some] + [PAPER_LABEL],
        missing=lambda thing: f"Nothing of {thing.title}.",
        nothing="Nothing at all.",
    )


def test_each_panel_has_its_title_and_one_legend_with_each_label_once() -> None:
    figure = made([Thing("one"), Thing("two")])
    assert [part.get_suptitle() for part in figure.subfigs] == ["one", "two", ""]
    assert entries(figure) == [["line of one", PAPER_LABEL], ["line of two", PAPER_LABEL]]
    assert len(figure.axes) == 4


def test_a_panel_with_nothing_to_draw_and_a_figure_without_panels_say_so() -> None:
    assert "Nothing of two." in texts(made([Thing("one"), Thing("two", measured=False)]))
    assert "Nothing at all." in texts(made([]))
    assert "Why." in texts(sentence_figure("Why.", 3.0))


def test_the_caption_is_broken_into_lines_that_stay_within_the_figure() -> None:
    for figure in (made([Thing("one")]), grid_figure(3, LONG, size=(3.0, 2.0))[0], captioned_figure(5.0, [1.0, 2.0], LONG)[0]):
        figure.draw_without_rendering()
        (caption,) = [one for part in figure.subfigs for one in part.texts if one.get_gid() == CAPTION]
        assert " ".join(caption.get_text().split()) == LONG.strip()
        box, page = caption.get_window_extent(), figure.bbox
        assert page.x0 <= box.x0
        assert box.x1 <= page.x1
        assert page.y0 <= box.y0


@pytest.mark.parametrize(("count", "shown", "hidden"), [(1, 1, 0), (2, 2, 0), (3, 3, 1), (4, 4, 0)])
def test_a_grid_has_two_axes_in_a_row_and_hides_the_place_that_is_left(count: int, shown: int, hidden: int) -> None:
    figure, places = grid_figure(count, LONG, size=(3.0, 2.0), margin=0.4)
    assert len(places) == shown
    assert sum(not axes.axison for axes in figure.axes) == hidden
    assert figure.get_figwidth() == pytest.approx(3.0 * min(2, count) + 0.4)
    assert len({round(axes.get_position().width, 6) for axes in places}) == 1
