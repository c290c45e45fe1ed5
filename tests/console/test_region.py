"""Lines that are drawn in place leave nothing behind: not when something is printed, not after a resize, not at the end."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.text import Text

from gapbench.console.live import MARGIN, Region

SIZES = [(120, 30), (80, 24), (60, 12), (40, 8), (200, 50)]


@pytest.fixture
def region(screen):
    """A screen with three lines at its bottom that say how wide they may be."""
    here = screen(80, 24)
    made = Region(here.console, lambda width, height: [Text(f"{number}" * width) for number in "abc"][:height])
    yield here, made
    made.stop()


def drawn(width: int, lines: str = "abc") -> list[str]:
    return [letter * (width - MARGIN) for letter in lines]


def test_what_is_printed_stays_above_the_lines(region):
    here, lines = region
    lines.start()
    assert here.lines == drawn(80)
    lines.print(Text("first"), Text("second"))
    lines.refresh()
    lines.print(Text("third"))
    assert here.lines == ["first", "second", "third", *drawn(80)]


def test_nothing_is_left_at_the_end_but_what_was_printed(region):
    here, lines = region
    lines.print(Text("before"))
    lines.start()
    lines.print(Text("meanwhile"))
    lines.stop()
    lines.print(Text("after"))
    assert here.lines == ["before", "meanwhile", "after"]


@pytest.mark.parametrize("size", SIZES)
def test_a_resize_leaves_no_line_behind(region, size):
    here, lines = region
    lines.start()
    lines.print(Text("said"))
    here.resize(*size)
    lines.refresh()
    fits = "abc"[: size[1] - 1]
    assert here.lines == ["said", *drawn(size[0], fits)]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.tuples(st.integers(8, 130), st.integers(30, 60)), min_size=1, max_size=6))
def test_any_row_of_resizes_leaves_one_copy(screen, sizes):
    """On screens high enough for the lines however they wrap: what has scrolled out of a screen nobody can erase."""
    here = screen(80, 40)
    lines = Region(here.console, lambda width, _height: [Text("#" * width), Text("-" * (width // 2)), Text("x")])
    lines.print(Text("said"))
    lines.start()
    for number, size in enumerate(sizes):
        here.resize(*size)
        lines.refresh()
        if number % 2:
            lines.print(Text(f"{number}"))
    printed = [str(number) for number in range(len(sizes)) if number % 2]
    width = sizes[-1][0] - MARGIN
    shown = here.lines
    lines.stop()
    assert shown == ["said", *printed, "#" * width, "-" * (width // 2), "x"]


def test_lines_are_cut_before_the_margin_where_the_terminal_writes_control_c(screen):
    here = screen(40, 10)
    lines = Region(here.console, lambda _width, _height: [Text("x" * 100)])
    lines.start()
    here.write("^C^C")
    lines.refresh()
    lines.stop()
    assert here.lines == [""]


def test_a_screen_of_one_row_is_enough(screen):
    here = screen(30, 1)
    lines = Region(here.console, lambda _width, height: [Text("row")] * height)
    lines.start()
    lines.print(Text("said"))
    assert here.lines == ["said", "row"]
    lines.stop()


@pytest.mark.skipif(not hasattr(signal, "SIGTSTP"), reason="Windows has no Ctrl-Z")
def test_control_z_erases_the_lines_and_after_it_they_are_drawn_below_what_the_shell_wrote(region, monkeypatch):
    here, lines = region

    def stand_still(_pid, number):
        assert number == signal.SIGTSTP
        assert here.lines == ["said"]
        here.write("^Z\n[1]+  Stopped\n$ fg\n")
        lines.refresh()  # by the other thread, before this one goes on

    monkeypatch.setattr(os, "kill", stand_still)
    lines.print(Text("said"))
    lines.start()
    signal.getsignal(signal.SIGTSTP)(signal.SIGTSTP, None)
    lines.refresh()
    assert here.lines == ["said", "^Z", "[1]+  Stopped", "$ fg", *drawn(80)]
    lines.stop()
    assert signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL


def test_a_terminal_that_goes_away_is_no_error(region, monkeypatch):
    here, lines = region
    lines.start()

    def closed(_text):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(here, "write", closed)
    lines.print(Text("nobody reads this"))
    lines.refresh()


def test_in_the_background_nothing_moves_the_cursor(region, monkeypatch):
    here, lines = region
    monkeypatch.setattr(here, "fileno", lambda: 2)
    monkeypatch.setattr(os, "tcgetpgrp", lambda _descriptor: os.getpgrp() + 1)
    lines.start()
    lines.refresh()
    assert here.lines == [""]
    lines.print(Text("said"))
    assert here.lines == ["said"]
