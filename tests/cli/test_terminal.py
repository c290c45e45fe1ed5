"""`gapbench run` in a real terminal: resized while it runs, interrupted, closed; what people see, and that nothing is lost."""

from __future__ import annotations

import codecs
import os
import re
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from gapbench.store import read_tables
from tests.console.terminal import Terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
if sys.platform != "win32":
    import fcntl
    import pty
    import termios

DEADLINE_SECONDS = 600.0
"""Only what hangs takes so long, also on a busy machine."""
INCOMPLETE = re.compile(r"(?:\x1b(?:\[[0-9;?]*)?)?$")
COLOR = re.compile(rb"\x1b\[(?:[0-9]+;)*[349][0-7]m")
HERE = Path(__file__).parent


class Session:
    """A process in a terminal of its own."""

    def __init__(self, *arguments: object, width: int = 100, height: int = 40, **variables: str) -> None:
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell starts what runs in the background with Ctrl-C ignored
            environment |= {"TERM": "xterm", "PYTHONPATH": str(HERE.parents[1]), **variables}
            os.execve(sys.executable, [sys.executable, str(HERE / "fake_cli.py"), *map(str, arguments)], environment)
        self.terminal = Terminal(width, height)
        self.resize(width, height)
        self.raw = b""
        self._held = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")  # the terminal writes "^C" anywhere
        self.status: int | None = None

    def resize(self, width: int, height: int) -> None:
        self.terminal.resize(width, height)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self._master, text)

    def read(self, seconds: float = 0.05) -> bool:
        """Reads what the process has written; returns whether it is still there."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            block = os.read(self._master, 1 << 16)
        except OSError:  # Linux says so when the other side has ended
            block = b""
        self.raw += block
        text = self._held + self._decoder.decode(block)
        self._held = INCOMPLETE.search(text)[0]  # a read may end within a control code
        self.terminal.feed(text[: len(text) - len(self._held)])
        return bool(block)

    def until_drawn(self) -> None:
        """Reads until the live lines have been drawn anew: they will stay as they are for a quarter of a second."""
        before = len(self.raw)
        self.until(lambda: len(self.raw) > before and self.raw.endswith(b" left"))

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert self.read(), "\n".join(self.lines)
            assert time.monotonic() < deadline, "\n".join(self.lines)

    def end(self) -> int:
        """Reads to the end and returns the exit status."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.read():
            assert time.monotonic() < deadline, "\n".join(self.lines)
        return self.wait()

    def wait(self) -> int:
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def close(self) -> None:
        os.close(self._master)

    @property
    def lines(self) -> list[str]:
        return self.terminal.history

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.lines).split())


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Session]]:
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0.05")
    sessions: list[Session] = []

    def start(*arguments: object, **more) -> Session:
        sessions.append(Session(*arguments, **more))
        return sessions[-1]

    yield start
    for one in sessions:
        if one.status is None:
            try:
                os.kill(one.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            one.wait()


def trains(one: Session) -> Callable[[], bool]:
    """Whether some job has made a few updates."""
    return lambda: any("/112 " in line and line.split("/112")[0].split()[-1] != "0" for line in one.lines)


def outcomes() -> set[str]:
    return set(read_tables(Path("results/small")).runs.outcome)


def test_resizing_leaves_one_copy_of_the_live_lines(session, suite):
    one = session("run", suite, "--slots", 2)
    one.until(trains(one))
    for width, height in ((60, 40), (40, 30), (120, 40), (80, 24)):
        one.until_drawn()
        one.resize(width, height)
        one.until_drawn()
        assert sum(line.startswith("arm ") for line in one.lines) == 1, "\n".join(one.lines)
        assert sum("/4 runs" in line for line in one.lines) == 1
        assert max(map(len, one.lines)) <= width
    one.type(b"\x03")
    assert one.end() == 130


def test_control_c_asks_nothing_loses_nothing_and_the_same_command_goes_on(session, suite, monkeypatch):
    one = session("run", suite, "--slots", 2)
    one.until(trains(one))
    one.type(b"\x03")
    assert one.end() == 130
    assert "stopping: what is training writes a checkpoint first, to go on from there later (Ctrl-C again: stop at once)" in one.text
    assert "to go on: gapbench run" in one.text
    assert "Traceback" not in one.text
    assert not any("/112 " in line for line in one.lines)
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0")
    again = session("run", suite, "--slots", 2)
    assert again.end() == 0
    assert outcomes() == {"ok"}
    logs = [path.read_text() for path in Path("results/small/runs").glob("*/log.txt")]
    assert any("goes on after update" in log for log in logs)


def test_control_c_twice_stops_at_once_and_loses_no_result(session, suite, monkeypatch):
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "3600")  # no worker gets to look whether it should stop
    one = session("run", suite, "--slots", 2)
    one.until(lambda: any(line.startswith("arm ") for line in one.lines) and len(list(Path("results").glob("small/runs/*/log.txt"))) >= 2)
    one.type(b"\x03")
    one.until(lambda: "stopping: what" in one.text)
    one.type(b"\x03")
    assert one.end() == 130
    assert "stopping at once" in one.text
    assert outcomes() <= {"interrupted", "skipped"}
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0")
    assert session("run", suite).end() == 0
    assert outcomes() == {"ok"}


def test_control_c_while_workers_start_is_no_error(session, suite):
    one = session("run", suite, "--slots", 2)
    one.until(lambda: "results: " in one.text)
    one.type(b"\x03")
    assert one.end() == 130
    assert "error" not in one.text
    assert "to go on" in one.text


def test_closing_the_terminal_leaves_checkpoints(session, suite, monkeypatch):
    one = session("run", suite, "--slots", 2)
    one.until(trains(one))
    workers = psutil.Process(one.pid).children()
    one.close()
    one.wait()
    _, alive = psutil.wait_procs(workers, timeout=DEADLINE_SECONDS)
    assert not alive
    assert list(Path("results/small/runs").glob("*/checkpoint.pt"))
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0")
    assert session("run", suite).end() == 0
    assert outcomes() == {"ok"}


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_plain_terminal_gets_plain_text(session, suite, variables, monkeypatch):
    monkeypatch.setenv("FAKE_UPDATE_SECONDS", "0")
    one = session("run", suite, **variables)
    assert one.end() == 0
    assert "trained 4 runs" in one.text
    if variables == {"TERM": "dumb"}:
        assert b"\x1b" not in one.raw
    assert not COLOR.search(one.raw)


def test_watching_follows_a_suite_that_trains_elsewhere(session, suite, monkeypatch, tmp_path):
    hold = tmp_path / "hold"
    hold.touch()
    monkeypatch.setenv("FAKE_HOLD", str(hold))  # however long two starts of a busy machine take
    one = session("run", suite, "--slots", 2)
    one.until(trains(one))

    def sees_training():
        return one.read(0.0) and "training now" in watching.text  # read, else the run waits for its terminal

    watching = session("status", "small", "--watch")
    watching.until(sees_training)
    watching.type(b"\x03")
    watching.end()
    assert psutil.pid_exists(one.pid)
    watching = session("status", "small", "--watch")
    watching.until(sees_training)
    one.type(b"\x03")
    assert one.end() == 130
    assert watching.end() == 0
    assert "nothing is training" in watching.text
    assert "Traceback" not in watching.text
