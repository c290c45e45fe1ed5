"""The two views of a running suite: a live table in a terminal, plain lines elsewhere.

The live lines stand at the bottom of the terminal and are drawn again and again in place, also after it has changed its size. What was
drawn is erased before anything else is printed, and drawn again below it. When a terminal becomes narrower it wraps the lines that stand
there (xterm, which cuts them off instead, is the exception): as many rows have to be erased as they take now. The cursor is left visible
and the alternate screen alone, so that a kill at any moment leaves a terminal in order.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from gapbench.catalog.entries import Metric
from gapbench.console.status import Column, job_failures, status_lines, table_lines
from gapbench.console.words import clock, count, duration, metric_text, place, rate, say, slots_text, unfolded
from gapbench.core.events import FINAL, Outcome
from gapbench.execution import Begun, Ended, JobEnded, Notice, Running, Said, Stopping, Tracker

if TYPE_CHECKING:
    from gapbench.api import Status

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


def messages(notice: Notice, tracker: Tracker, told: set[tuple[Outcome, str]]) -> list[Text]:
    """Returns what everybody should read about a notice; empty for what only moves numbers.

    Args:
        notice: which `tracker` has taken.
        tracker: of the whole suite.
        told: failures that need no quoting any more, see `job_failures`; grows.
    """
    match notice:
        case Begun():
            return [Text(begun_text(notice)), Text(prediction_text(notice, tracker)), unfolded(f"results: {place(notice.results)}")]
        case Said():
            return [Text(notice.text)]
        case Stopping():
            return [Text(stopping_text(notice), style="bold")]
        case Ended():
            command = tracker.begun.command if tracker.begun and notice.interrupted else ""
            return [Text(ended_text(notice, tracker)), *([unfolded(f"to go on: {command}")] if command else [])]
        case JobEnded() if notice.failures:
            return job_failures(notice.title, notice.outcomes, notice.failures, told)
        case _:
            return []


def begun_text(begun: Begun) -> str:
    """Returns what is about to happen, in one sentence."""
    failed = f", {begun.failed:,} of them not ok" if begun.failed else ""
    done = f" ({begun.done:,} done before{failed})" if begun.done else ""
    slots = slots_text(begun.devices, len(begun.slots), begun.threads)
    return f"{begun.suite}: training {count(begun.runs, 'run')}{done} on {', '.join(begun.devices)}, {slots}"


def prediction_text(begun: Begun, tracker: Tracker) -> str:
    """Returns how long that should take."""
    if tracker.predicted_seconds is None:
        return "how long that takes cannot be predicted before something of it has trained"
    rough = ", roughly: not all of it was timed on this machine before" if begun.basis != "measured" else ""
    return f"predicted to take {duration(tracker.predicted_seconds)}{rough}"


def stopping_text(stopping: Stopping) -> str:
    """Returns what happens after Ctrl-C."""
    if stopping.at_once:
        return "stopping at once: what was training goes on from its last checkpoint, at most a minute old"
    return "stopping: what is training writes a checkpoint first, to go on from there later (Ctrl-C again: stop at once)"


def ended_text(ended: Ended, tracker: Tracker) -> str:
    """Returns how long training took against the prediction or, after an interruption, what is left."""
    took = duration(tracker.seconds)
    if ended.interrupted:
        left = tracker.seconds_left
        rest = f", about {duration(left)} of training are left" if left else ""
        return f"interrupted after {took}: {tracker.runs_ended:,} of {count(tracker.runs, 'run')} have ended{rest}"
    predicted = f" (predicted: {duration(tracker.predicted_seconds)})" if tracker.predicted_seconds is not None else ""
    return f"trained {count(tracker.ended.total(), 'run')} in {took}{predicted}; tables and figures follow"


def job_text(notice: JobEnded) -> str:
    """Returns how a job ended that did not fail."""
    outcomes = sorted({outcome.value for outcome in notice.outcomes.values()})
    known = list(notice.headline.values())
    headline = _tested(notice.metric, sum(known) / len(known)) if known else ""
    return f"{notice.title}: {', '.join(outcomes)}{headline}"


def _tested(metric: Metric | None, value: float | None) -> str:
    """Returns ", test accuracy 97.8 %"; an empty text where nothing was tested yet."""
    return f", test {metric.name} {metric_text(metric, value)}" if metric is not None and value is not None else ""


QUIET_SECONDS = 60.0
"""Without a terminal: how long at most nothing is printed while something trains."""

WIDEST_BAR = 40


def view(console: Console) -> LineView | LiveView:
    """Returns the view that suits a console: live only where the cursor of a real terminal can be moved, whatever FORCE_COLOR says."""
    return LiveView(console) if console.is_interactive and console.file.isatty() else LineView(console)


class LineView:
    """A line whenever a job ends, and now and then how far the others are. A reader that goes away is no reason to stop."""

    def __init__(self, console: Console, tracker: Tracker | None = None) -> None:
        self._console = console
        self._tracker = tracker or Tracker()
        self._told: set[tuple[Outcome, str]] = set()
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, notice: Notice) -> None:
        """Prints what a reader of a log wants to know."""
        tracker = self._tracker
        tracker.take(notice)
        lines = messages(notice, tracker, self._told)
        if isinstance(notice, JobEnded) and any(outcome in FINAL for outcome in notice.outcomes.values()):
            lines = lines or [Text(job_text(notice))]
            lines[0] = Text(f"[{tracker.runs_ended}/{tracker.runs}] ") + lines[0]
        elif not lines and time.monotonic() - self._printed > QUIET_SECONDS:
            lines = [Text(text) for text in quiet_texts(tracker)]
        self._say(lines)

    def _say(self, lines: Iterable[Text]) -> None:
        for line in lines:
            self._printed = time.monotonic()
            try:
                say(self._console, line)
            except (OSError, ValueError):  # closed
                return


class LiveView:
    """A row for each running job, and a line for all of them, drawn in place; what must not scroll away unseen stands above."""

    def __init__(self, console: Console, tracker: Tracker | None = None) -> None:
        self._ascii = console.options.ascii_only
        self._tracker = tracker or Tracker()
        self._told: set[tuple[Outcome, str]] = set()
        self._lock = threading.Lock()  # the table is drawn by a thread of its own
        self._region = Region(console, self.draw)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._region.stop()

    def __call__(self, notice: Notice) -> None:
        """Takes a notice."""
        with self._lock:
            self._tracker.take(notice)
            lines = messages(notice, self._tracker, self._told)
        if isinstance(notice, Ended):
            self._region.stop()
        if lines:
            self._region.print(*lines)
        if isinstance(notice, Begun):
            self._region.start()

    def refresh(self) -> None:
        """Draws the lines anew, before their time."""
        self._region.refresh()

    def draw(self, width: int, height: int) -> list[Text]:
        """Returns the lines for a terminal of this size, in characters: the last one is always about the whole suite."""
        with self._lock:
            return [*self._jobs(width, height - 1), overall_line(self._tracker, width, ascii_only=self._ascii)]

    def _jobs(self, width: int, height: int) -> list[Text]:
        tracker = self._tracker
        slots = sorted(tracker.slots)
        header = height >= 3 and bool(slots)
        room = max(0, height - header)
        shown = slots if len(slots) <= room else slots[: max(0, room - 1)]
        jobs = [tracker.slots[slot] for slot in shown]
        columns = [
            Column("updates", [f"{job.update:,}/{job.updates:,}" for job in jobs], importance=4),
            Column("done", [f"{100 * job.update // job.updates} %" for job in jobs], importance=3, instead="updates"),
            Column("examples", [rate(job.examples_per_second) if job.examples_per_second else "starting" for job in jobs], importance=1),
            Column(_heading(jobs), [metric_text(job.metric, job.headline) for job in jobs], importance=2),
            Column("left", [clock(tracker.job_seconds_left(slot)) for slot in shown], importance=5),
        ]
        lines = table_lines("arm", [job.title for job in jobs], columns, width, header=header) if jobs else []
        if len(shown) < len(slots) and room:
            lines.append(Text(f"and {len(slots) - len(shown)} more", style="dim"))
        return lines


def _heading(jobs: Sequence[Running]) -> str:
    """Returns what the column of test results is called: "test acc."; "test" where jobs have several metrics."""
    names = {job.metric.name for job in jobs if job.metric is not None}
    if len(names) != 1:
        return "test"
    (name,) = names
    return f"test {name}" if len(name) <= 4 else f"test {name[:3]}."


def overall_line(tracker: Tracker, width: int, *, ascii_only: bool = False) -> Text:
    """Returns how far the whole suite is, as long as fits: a bar, runs, failures, time passed, time left."""
    runs = f"{tracker.runs_ended:,}/{tracker.runs:,} runs"
    failed = f", {tracker.runs_failed:,} failed" if tracker.runs_failed else ""
    left = "stopping" if tracker.stopping else f"{left_text(tracker)} left"
    for texts in ((runs, failed, f"  {clock(tracker.seconds)}", f"  {left}"), (runs, failed, "", f", {left}"), (runs, failed, "", "")):
        if sum(map(len, texts)) <= width:
            break
    line = Text.assemble(texts[0], (texts[1], "yellow"), (texts[2], "dim"), texts[3])
    room = min(WIDEST_BAR, width - line.cell_len - 2)
    if room < 8:
        return line
    full = int(tracker.fraction * room)
    done, rest = ("#", "-") if ascii_only else ("━", "─")
    return Text.assemble((done * full, "green"), (rest * (room - full), "dim"), "  ", line)


def left_text(tracker: Tracker) -> str:
    """Returns the time left as a clock; a rough one begins with "~"."""
    seconds = tracker.seconds_left
    return f"{'~' if tracker.rough and seconds is not None else ''}{clock(seconds)}"


def quiet_texts(tracker: Tracker) -> list[str]:
    """Returns how far everything is, for a log: a line for each running job and one for all."""
    texts = []
    for slot, job in sorted(tracker.slots.items()):
        seconds = tracker.job_seconds_left(slot)
        left = f", {duration(seconds)} left" if seconds is not None else ""
        texts.append(f"{job.title}: update {job.update:,} of {job.updates:,}{_tested(job.metric, job.headline)}{left}")
    seconds = tracker.seconds_left
    left = "unknown time" if seconds is None else f"{'roughly ' if tracker.rough else ''}{duration(seconds)}"
    return [*texts, f"{100 * tracker.fraction:.0f} % of all, {left} left"]


WATCH_SECONDS = 2.0


def watch_status(console: Console, seen: Status, look: Callable[[], Status]) -> Status:
    """Draws how far results are, until nobody is at work any more or Ctrl-C; returns what was seen last.

    Args:
        console: of a terminal.
        seen: the status now.
        look: returns it anew.
    """

    def draw(width: int, height: int) -> list[Text]:
        lines = status_lines(seen, width)
        return lines if len(lines) <= height else [*lines[: max(0, height - 1)], Text(f"and {len(lines) - height + 1} lines more")][:height]

    region = Region(console, draw)
    region.start()
    try:
        while seen.in_use:
            time.sleep(WATCH_SECONDS)
            seen = look()
    except KeyboardInterrupt:
        pass  # this ends; what trains is another process and goes on
    finally:
        region.stop()
    return seen
