"""The two views of a running suite: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gapbench.console.tracker import Running, Tracker
from gapbench.console.words import clock, count, duration, percent, rate
from gapbench.core.outcome import Outcome
from gapbench.execution import Begun, JobEnded, JobStarted, Notice, Said

QUIET_SECONDS = 60.0
"""Without a terminal: how long at most nothing is printed while something trains."""


NARROW = 66
"""Columns of a terminal below which only the most important is shown."""


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
    """Returns the view that suits a console."""
    return LiveView(console) if console.is_terminal else LineView(console)


def begun_text(begun: Begun) -> str:
    """Returns what is about to happen, in one sentence."""
    done = f" ({begun.done:,} done before)" if begun.done else ""
    slots = (
        f"{count(begun.slots, 'slot')} with {count(begun.threads, 'thread')}" if begun.devices == ("cpu",) else count(begun.slots, "slot")
    )
    return f"training {count(begun.runs, 'run')}{done} on {', '.join(begun.devices)}, {slots}"


def ended_text(notice: JobEnded) -> str:
    """Returns how a job ended."""
    outcomes = sorted({outcome.value for outcome in notice.outcomes.values()})
    known = [value for value in (notice.test_accuracy or {}).values() if value is not None]
    accuracy = f", test accuracy {percent(sum(known) / len(known))}" if known else ""
    reason = f": {notice.reason}" if notice.reason and outcomes != ["ok"] else ""
    return f"{notice.title}: {', '.join(outcomes)}{accuracy}{reason}"


class LineView:
    """A line whenever a job ends, and now and then how far the others are."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tracker = Tracker()
        self._printed = time.monotonic()

    def __enter__(self) -> LineView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def __call__(self, notice: Notice) -> None:
        """Prints what a reader of a log wants to know."""
        self._tracker.take(notice)
        match notice:
            case Begun():
                self._say(begun_text(notice))
            case Said():
                self._say(notice.text)
            case JobEnded() if notice.outcomes:
                total = self._tracker.begun.runs if self._tracker.begun else 0
                self._say(f"[{self._tracker.runs_ended}/{total}] {ended_text(notice)}")
            case _:
                if time.monotonic() - self._printed > QUIET_SECONDS:
                    for running in self._tracker.slots.values():
                        self._say(_line(running))
                    self._say(f"{100 * self._tracker.fraction:.0f} % of all, {duration(self._tracker.seconds_left) or 'unknown time'} left")

    def _say(self, text: str) -> None:
        self._console.print(escape(text), highlight=False, soft_wrap=True)
        self._printed = time.monotonic()


class LiveView:
    """A row for each running job, and a bar for all of them, redrawn four times a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tracker = Tracker()
        self._lock = threading.Lock()  # the table is drawn by a thread of its own
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def __call__(self, notice: Notice) -> None:
        """Takes a notice; what must not scroll away unseen is printed above the table."""
        with self._lock:
            self._tracker.take(notice)
        match notice:
            case Begun():
                self._print(begun_text(notice))
                self._live.start(refresh=True)
            case Said():
                self._print(notice.text)
            case JobEnded() if any(outcome not in (Outcome.OK, Outcome.INTERRUPTED) for outcome in notice.outcomes.values()):
                self._print(ended_text(notice), style="yellow")
            case JobStarted() | _:
                pass

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(escape(text), style=style, highlight=False)

    def _render(self) -> RenderableType:
        with self._lock:
            return self._table()

    def _table(self) -> RenderableType:
        tracker = self._tracker
        rows = [tracker.slots[slot] for slot in sorted(tracker.slots)]
        room = max(1, self._console.height - 6)
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=True, header_style="dim")
        table.add_column("arm", overflow="ellipsis", no_wrap=True, ratio=1, min_width=8)
        narrow = self._console.width < NARROW
        for heading in ("updates", "examples", "test acc.", "left") if not narrow else ("updates", "acc."):
            table.add_column(heading, justify="right", no_wrap=True)
        for running in rows[:room]:
            cells = [
                f"{running.update:,}/{running.updates:,}",
                rate(running.examples_per_second) if running.last else "starting",
                percent(running.accuracy),
                clock(running.seconds_left),
            ]
            table.add_row(escape(running.title), *(cells if not narrow else [cells[0], cells[2]]))
        parts: list[RenderableType] = [table]
        if len(rows) > room:
            parts.append(Text(f"and {len(rows) - room} more", style="dim"))
        return Group(*parts, self._overall())

    def _overall(self) -> RenderableType:
        tracker = self._tracker
        total = tracker.begun.runs if tracker.begun else 0
        bad = tracker.runs_ended - tracker.ended[Outcome.OK]
        text = Text(f"{tracker.runs_ended}/{total} runs")
        if bad:
            text.append(f", {bad} not ok", style="yellow")
        if self._console.width < NARROW:
            return text.append(f", {clock(tracker.seconds_left)} left")
        text.append(f"  {clock(tracker.seconds)}", style="dim")
        text.append(f"  {clock(tracker.seconds_left)} left")
        # Not to the last column: the terminal writes "^C" behind it, and must not begin a new line for that.
        line = Table.grid(padding=(0, 2, 0, 0))
        line.width = self._console.width - 4
        line.add_column(ratio=1, min_width=10)
        line.add_column(justify="right", no_wrap=True)
        line.add_row(ProgressBar(total=1.0, completed=tracker.fraction), text)
        return line


def _line(running: Running) -> str:
    accuracy = f", test accuracy {percent(running.accuracy)}" if running.accuracy is not None else ""
    left = f", {duration(running.seconds_left)} left" if running.seconds_left is not None else ""
    return f"{running.title}: update {running.update:,} of {running.updates:,}{accuracy}{left}"
