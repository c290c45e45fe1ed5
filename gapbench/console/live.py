"""The two views of a running suite: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.text import Text

from gapbench.console.layout import Column, table_lines
from gapbench.console.messages import job_text, messages
from gapbench.console.region import Region
from gapbench.console.sentences import say
from gapbench.console.words import clock, duration, percent, rate
from gapbench.core.outcome import FINAL, Outcome
from gapbench.execution import Begun, Ended, JobEnded, Notice, Tracker

QUIET_SECONDS = 60.0
"""Without a terminal: how long at most nothing is printed while something trains."""

WIDEST_BAR = 40


class View(Protocol):
    """A context manager that is called with notices."""

    def __enter__(self) -> View:
        """Begins to show."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends."""
        ...

    def __call__(self, notice: Notice) -> None:
        """Shows a notice."""
        ...


def view(console: Console) -> View:
    """Returns the view that suits a console: live only where the cursor of a real terminal can be moved, whatever FORCE_COLOR says."""
    return LiveView(console) if console.is_interactive and console.file.isatty() else LineView(console)


class LineView:
    """A line whenever a job ends, and now and then how far the others are. A reader that goes away is no reason to stop."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tracker = Tracker()
        self._told: set[tuple[Outcome, str]] = set()
        self._printed = time.monotonic()

    def __enter__(self) -> LineView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
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

    def __init__(self, console: Console) -> None:
        self._ascii = console.options.ascii_only
        self._tracker = Tracker()
        self._told: set[tuple[Outcome, str]] = set()
        self._lock = threading.Lock()  # the table is drawn by a thread of its own
        self._region = Region(console, self.draw)

    def __enter__(self) -> LiveView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
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
            Column("test acc.", [percent(job.accuracy) for job in jobs], importance=2),
            Column("left", [clock(tracker.job_seconds_left(slot)) for slot in shown], importance=5),
        ]
        lines = table_lines("arm", [job.title for job in jobs], columns, width, header=header) if jobs else []
        if len(shown) < len(slots) and room:
            lines.append(Text(f"and {len(slots) - len(shown)} more", style="dim"))
        return lines


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
        accuracy = f", test accuracy {percent(job.accuracy)}" if job.accuracy is not None else ""
        seconds = tracker.job_seconds_left(slot)
        left = f", {duration(seconds)} left" if seconds is not None else ""
        texts.append(f"{job.title}: update {job.update:,} of {job.updates:,}{accuracy}{left}")
    seconds = tracker.seconds_left
    left = "unknown time" if seconds is None else f"{'roughly ' if tracker.rough else ''}{duration(seconds)}"
    return [*texts, f"{100 * tracker.fraction:.0f} % of all, {left} left"]
