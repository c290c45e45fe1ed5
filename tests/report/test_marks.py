from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from gapbench.analysis.cells import Cell
from gapbench.report.marks import cells_of_id, mark, mark_entry, mark_of, number_marks


@dataclass(frozen=True)
class Named:
    name: str


def cells(*names: str) -> list[Cell]:
    return [cast("Cell", Named(name)) for name in names]


def line() -> Any:
    return Figure().subplots().plot([1, 2], [3, 4])[0]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=3, unique=True))
def test_any_names_come_back_from_a_group_id_also_when_it_is_numbered(names: list[str]) -> None:
    artist = line()
    mark(artist, *cells(*names))
    assert cells_of_id(artist.get_gid()) == tuple(names)
    for _ in range(2):
        number_marks(artist.get_figure())
        assert cells_of_id(artist.get_gid()) == tuple(names)
    assert all(character.isascii() and (character.isalnum() or character in "_-.") for character in artist.get_gid())


def test_numbered_ids_are_unique() -> None:
    figure = Figure()
    lines = figure.subplots().plot([1, 2], [[3, 4], [5, 6]])
    for one in lines:
        mark(one, *cells("LB+LR"))
    number_marks(figure)
    assert len({one.get_gid() for one in lines}) == 2


def test_an_entry_of_a_legend_stands_for_each_of_its_cells_once_and_says_nothing() -> None:
    artist = line()
    mark_entry([artist], ["SB", "LB", "SB"])
    found = mark_of(artist)
    assert found is not None
    assert (found.cells, found.texts) == (("SB", "LB"), ())


@pytest.mark.parametrize("other", ["", "patch_1", "caption", "axes_3"])
def test_other_group_ids_stand_for_no_cell(other: str) -> None:
    assert cells_of_id(other) == ()
