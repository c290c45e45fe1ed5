"""Tables of the live view and of status fit any width, and never cut a number."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from gapbench.console.status import Column, fitting, table_lines

TITLES = ["SB", "LB+LR+GBN+RA seed 3"]
COLUMNS = [
    Column("updates", ["8/10", "1,234,567/2,345,678"], importance=2),
    Column("done", ["80 %", "52 %"], importance=1, instead="updates"),
    Column("left", ["0:01", "1:00:00"], importance=3),
]


@pytest.mark.parametrize("width", [*range(1, 60), 80, 120, 240])
def test_no_line_is_wider_than_asked_unless_there_is_no_room_for_a_title(width):
    lines = table_lines("arm", TITLES, COLUMNS, width)
    assert len(lines) == 3
    assert max(cell_len(line.plain) for line in lines) <= width


@pytest.mark.parametrize("width", range(20, 80))
def test_numbers_are_whole_or_absent(width):
    text = "\n".join(line.plain for line in table_lines("arm", TITLES, COLUMNS, width))
    for column in fitting(["arm", *TITLES], COLUMNS, width):
        for cell in column.cells:
            assert cell in text


def test_the_least_important_column_goes_first_and_a_short_one_stands_in():
    headings = {width: [column.heading for column in fitting(TITLES, COLUMNS, width)] for width in (80, 40, 30, 20)}
    assert headings == {80: ["updates", "left"], 40: ["done", "left"], 30: ["done", "left"], 20: ["done"]}


def test_a_title_without_room_ends_in_an_ellipsis():
    assert table_lines("arm", TITLES, [], 10, header=False)[1].plain == "LB+LR+GBN…"


def test_columns_are_right_aligned_under_their_headings():
    lines = [line.plain for line in table_lines("arm", ["SB", "LB"], [Column("left", ["0:01", "12:01"], importance=1)], 40)]
    assert lines == ["arm   left", "SB    0:01", "LB   12:01"]
