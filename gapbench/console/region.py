"""A few lines at the bottom of a terminal that are drawn again and again in place, also after the terminal has changed its size.

What was drawn is erased before anything else is printed, and drawn again below it. When a terminal becomes narrower it wraps the
lines that stand there (xterm, which cuts them off instead, is the exception): so many rows have to be erased as they take now.
The cursor is left visible and the alternate screen alone, so that a kill at any moment leaves a terminal in order.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from gapbench.console.sentences import say

REFRESH_SECONDS = 0.25

MARGIN = 4
"""Columns left free behind every line: the terminal writes "^C" there, twice, and must not begin a new line for that."""

Draw: TypeAlias = Callable[[int, int], Sequence[Text]]
"""Returns at most `height` lines for a width, both in characters."""


class Region:
    """The lines, drawn by `draw(width, height)`, from `start` to `stop`. Safe to use from several threads.

    A terminal that goes away (closed, or a pipe whose reader has ended) is no error: nothing is shown any more.
    """

    def __init__(self, console: Console, draw: Draw) -> None:
        self._console = console
        self._draw = draw
        self._lock = threading.RLock()
        self._drawn: list[int] = []
        """Widths of the lines that stand on the screen."""
        self._shown = False
        self._gone = False
        self._suspended = False
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._before: Any = None

    def start(self) -> None:
        """Begins to draw, four times a second."""
        if self._shown:
            return
        self._shown = True
        self._end.clear()
        if hasattr(signal, "SIGTSTP") and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTSTP, self._suspend)
        self.refresh()
        self._thread = threading.Thread(target=self._refresh_for_ever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Erases the lines and draws no more."""
        if not self._shown:
            return
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._shown = False
            self._write()
        if self._before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTSTP, self._before)
            self._before = None

    def print(self, *texts: Text) -> None:
        """Prints above the lines, where it stays; see `say`."""
        with self._lock:
            self._write(*texts)

    def refresh(self) -> None:
        """Draws the lines anew."""
        with self._lock:
            if self._shown and not self._suspended and self._in_foreground():
                self._write()

    def _refresh_for_ever(self) -> None:
        while not self._end.wait(REFRESH_SECONDS):
            self.refresh()

    def _write(self, *texts: Text) -> None:
        """Erases, prints and draws in one go: the console hands all of it to the terminal at once."""
        if self._gone:
            return
        width, height = self._size()
        lines = []
        if self._shown and not self._suspended and self._in_foreground():
            lines = [_cut(line, width - MARGIN) for line in self._draw(max(1, width - MARGIN), max(1, height - 1))][: max(1, height - 1)]
        try:
            with self._console as console:
                console.control(_erasure(self._drawn, width, height))
                for text in texts:
                    say(console, text, width=width)
                if lines:
                    console.print(Text("\n").join(lines), end="", highlight=False, soft_wrap=True)
        except (OSError, ValueError):  # closed
            self._gone = True
        self._drawn = [line.cell_len for line in lines]

    def _size(self) -> tuple[int, int]:
        """Returns the terminal's size now, whatever COLUMNS said when it was started."""
        try:
            size = os.get_terminal_size(self._console.file.fileno())
        except (OSError, ValueError, AttributeError):
            return self._console.size
        return (size.columns, size.lines) if size.columns and size.lines else self._console.size

    def _in_foreground(self) -> bool:
        """Whether this process may draw: one in the background of its shell must not move the cursor that the user types at."""
        try:
            return os.tcgetpgrp(self._console.file.fileno()) == os.getpgrp()
        except (OSError, ValueError, AttributeError):  # no terminal of ours to ask, no such calls on this system
            return True

    def _suspend(self, _number: int, _frame: object) -> None:
        """Ctrl-Z: erases the lines, for the shell to write in their place, and stops; after `fg` they are drawn below all that."""
        with self._lock:
            self._suspended = True
            self._write()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # here the process stands still until it is continued
        signal.signal(signal.SIGTSTP, self._suspend)
        self._suspended = False


def _erasure(drawn: Sequence[int], width: int, height: int) -> Control:
    """Returns what erases lines of these widths, the cursor standing behind the last of them, and leaves it where they began."""
    if not drawn:
        return Control()
    rows = min(height, sum(max(1, -(-length // width)) for length in drawn))
    erase = [(ControlType.CARRIAGE_RETURN,), (ControlType.ERASE_IN_LINE, 2)]
    return Control(*erase, *((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)) * (rows - 1))  # type: ignore[arg-type]


def _cut(line: Text, width: int) -> Text:
    line = line.copy()
    line.rstrip()
    line.truncate(max(1, width), overflow="ellipsis")
    return line
