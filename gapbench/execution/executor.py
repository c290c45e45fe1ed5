"""Where workers run, and what is said to them. Whoever hands out jobs knows an `Executor` and JSON objects, and no process.

Local processes are the executor there is. Another one places its workers elsewhere, carries the same messages both ways, notices
when a worker is lost, and knows how much memory is free where workers run and how much each of them holds.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from gapbench.core.machine import free_memory_mib, python_environment, resident_mib
from gapbench.execution.jobs import Pending, Slot
from gapbench.store.files import to_json
from gapbench.suite.runspec import Frozen, RunSpec

Message: TypeAlias = Mapping[str, Any]
"""A JSON object; its `kind` says what the rest means."""


@dataclass(frozen=True)
class Gone:
    """A worker has ended."""

    reason: str
    """Why, in words; empty where it ended as it should."""
    printed: str
    """The end of what it printed outside of any job, such as an error while it was starting."""


class Executor(ABC):
    """Runs one worker in a slot, by the slot's number. Called from one thread."""

    @abstractmethod
    def start(self, slot: Slot, setup: Setup) -> None:
        """Starts a worker in a slot that has none. A message of it says when it is ready; jobs may be sent before."""

    @abstractmethod
    def send(self, slot: int, message: Message) -> None:
        """Says something to a worker. To one that is gone already nothing is said: `receive` tells."""

    @abstractmethod
    def dismiss(self, slot: int) -> None:
        """Lets a worker go, with a checkpoint of what it trains. Calling it again does nothing."""

    @abstractmethod
    def kill(self, slot: int) -> None:
        """Ends a worker at once; what it did since its last checkpoint is done again later."""

    @abstractmethod
    def receive(self, timeout: float) -> tuple[int, Message | Gone] | None:
        """Returns what the worker of a slot said, or that it is gone, which is the last of it; None where all are silent for so long.

        Args:
            timeout: in seconds.
        """

    @abstractmethod
    def free_mib(self) -> float:
        """Returns the memory that is free where workers run."""

    @abstractmethod
    def held_mib(self, slot: int) -> float:
        """Returns the memory that a worker holds; 0 where it is gone."""

    @abstractmethod
    def close(self) -> None:
        """Ends all workers at once. The executor is not used any more."""


# What the parent and its workers say to each other.


class Setup(Frozen):
    """The first message to a worker: what stays the same for all its jobs."""

    kind: Literal["setup"] = "setup"
    results: Path
    """The results directory."""
    suite: str
    device: str
    """As the engine calls it: "cpu", or "cuda:0", the only one that the worker sees."""
    device_label: str
    """As the tables call it: "cuda:1"."""
    device_name: str
    threads: int
    data_dir: Path | None = None
    cache_dir: Path
    offline: bool
    suite_dir: Path | None = None
    plugins: tuple[str, ...] = ()
    machine: dict[str, Any]
    """Provenance that is the same for all workers."""
    checkpoint_seconds: float
    lock_seconds: float = 120.0
    """How long to wait for the worker of an earlier start that is still writing its last checkpoint."""


class JobOrder(Frozen):
    """To a worker: train these runs, together."""

    kind: Literal["job"] = "job"
    run_ids: tuple[str, ...]
    specs: tuple[RunSpec, ...]
    checkpoint: str | None
    """Id of the run whose folder holds a checkpoint with their slices."""
    slots: int
    """How many jobs may train on its device at a time meanwhile, this one included: for its results."""
    compiles: bool | None
    """Whether to try to compile the network; None: where that pays."""


STOP: Message = {"kind": "stop"}
"""To a worker: write a checkpoint and end."""


def job_message(item: Pending, *, slots: int) -> Message:
    """Returns the message that hands over a job; `slots`: see `JobOrder`."""
    job = item.job
    order = JobOrder(run_ids=job.run_ids, specs=job.specs, checkpoint=item.checkpoint, slots=slots, compiles=item.compiles)
    return order.model_dump(mode="json")


def encode(message: Message) -> bytes:
    """Returns a message as a line."""
    return json.dumps(to_json(dict(message)), allow_nan=False, separators=(",", ":")).encode("utf-8") + b"\n"


def read_messages(stream: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yields messages until the other side ends; a torn last line is dropped."""
    for line in stream:
        if not line.endswith(b"\n"):
            return
        yield json.loads(line)


def keep_stdout() -> Callable[[Message], None]:
    """Returns what writes messages to stdout. From now on prints go to stderr: those of libraries must not reach the parent."""
    answers = os.dup(1)
    os.dup2(2, 1)

    def say(message: Message) -> None:
        line = encode(message)
        while line:
            line = line[os.write(answers, line) :]

    return say


# Processes of this machine, which get and give a message a line over stdin and stdout.

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
"""By which a process is asked to end, besides Ctrl-C."""

WORKER_COMMAND = (sys.executable, "-P", "-m", "gapbench.execution.worker")
"""-P: a file of the working directory, such as `queue.py`, must not be imported in the place of a library."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Read by libraries when they are loaded, so they have to be set before the worker starts."""

MALLOC_VARIABLES = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
"""Lets glibc keep the memory of one update for the next: else activations of some MiB go back to the kernel after each use, and
every page of them is faulted in anew. On the CPU C1 gains 15 to 30 %, ResNet-44 a few; 32 MiB is the largest that glibc takes."""


class LocalProcesses(Executor):
    """Workers as processes of this machine. A worker's stdin closes when this process dies, however it dies."""

    def __init__(self, command: Sequence[str] | None = None) -> None:
        self._command = command or WORKER_COMMAND
        self._inbox: queue.SimpleQueue[tuple[int, Message | None]] = queue.SimpleQueue()
        """None: there is nothing more to come."""
        self._processes: dict[int, _Process] = {}

    def start(self, slot: Slot, setup: Setup) -> None:
        """Starts a process, and a thread that listens to it."""
        process = _Process(self._command, _environment(slot))
        self._processes[slot.number] = process
        process.send(setup.model_dump(mode="json"))

        def listen() -> None:
            for message in read_messages(process.stdout):
                self._inbox.put((slot.number, message))
            self._inbox.put((slot.number, None))

        threading.Thread(target=listen, daemon=True).start()

    def send(self, slot: int, message: Message) -> None:
        """Writes a line."""
        if slot in self._processes:
            self._processes[slot].send(message)

    def dismiss(self, slot: int) -> None:
        """Closes the worker's stdin."""
        if slot in self._processes:
            self._processes[slot].dismiss()

    def kill(self, slot: int) -> None:
        """Sends SIGKILL, or what Windows has in its place."""
        if slot in self._processes:
            self._processes[slot].popen.kill()

    def receive(self, timeout: float) -> tuple[int, Message | Gone] | None:
        """Waits for a line; signals of this process are noticed meanwhile."""
        try:
            slot, message = self._inbox.get(timeout=timeout)
        except queue.Empty:
            return None
        return slot, self._processes.pop(slot).end() if message is None else message

    def free_mib(self) -> float:
        """Asks the system, and the control group that limits it."""
        return free_memory_mib()

    def held_mib(self, slot: int) -> float:
        """Asks the system."""
        return resident_mib(self._processes[slot].popen.pid) if slot in self._processes else 0.0

    def close(self) -> None:
        """Kills all processes and waits for them."""
        for process in self._processes.values():
            process.popen.kill()
        while self._processes:
            self._processes.popitem()[1].end()


class _Process:
    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the process lives)
        with _without_interrupts():
            self.popen = subprocess.Popen([*command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._output, env=environment)
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self._stdin, self.stdout = self.popen.stdin, self.popen.stdout

    def send(self, message: Message) -> None:
        with suppress(OSError, ValueError):  # it has died: its silence on stdout tells, with the exit status
            self._stdin.write(encode(message))
            self._stdin.flush()

    def dismiss(self) -> None:
        with suppress(OSError):  # it is gone already
            self._stdin.close()

    def end(self) -> Gone:
        """Waits for the end of the process, frees what is left of it and says how it ended."""
        status = self.popen.wait()
        self.dismiss()
        self.stdout.close()
        with self._output as output:
            output.seek(0, os.SEEK_END)
            output.seek(max(0, output.tell() - 8000))
            printed = output.read().decode("utf-8", errors="replace").strip()
        return Gone(_how_it_died(status), printed)


def _how_it_died(status: int) -> str:
    """Returns in words how a worker ended that should not have; empty where it ended rightly."""
    if status == 0:
        return ""
    if status > 0:
        return f"the worker process ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "a signal"
    hint = ", often the kernel's lack of memory" if name == "SIGKILL" else ""
    return f"the worker process was killed by signal {-status} ({name}{hint})"


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What starts in here never gets Ctrl-C, which a terminal sends to all its processes: not even before it can say that it ignores it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment(slot: Slot) -> Mapping[str, str]:
    return {
        **MALLOC_VARIABLES,
        **python_environment(),
        **dict.fromkeys(THREAD_VARIABLES, str(slot.threads)),
        # A run on the CPU does not even start the GPU's driver.
        "CUDA_VISIBLE_DEVICES": slot.device.visible if slot.device.kind == "cuda" else "",
    }
