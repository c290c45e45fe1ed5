"""Worker processes as their parent sees them."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import gapbench
from gapbench.execution.jobs import Job, Slot
from gapbench.execution.protocol import STOP, JobOrder, Setup, encode, encode_job, encode_setup, read_messages
from gapbench.execution.resume import Pending

WORKER_COMMAND = (sys.executable, "-P", "-m", "gapbench.execution.worker")
"""-P: a file in the working directory, such as the user's own `queue.py`, must not stand in for a library."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

MALLOC_VARIABLES = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
"""Lets glibc keep the memory of one update for the next: else activations of some MiB go back to the kernel after each use, and
every page of them is faulted in anew. On the CPU C1 gains 15 to 30 %, ResNet-44 a few; 32 MiB is the largest that glibc takes."""
"""Read by libraries when they are loaded, so they have to be set before the worker starts."""

Message: TypeAlias = tuple["Worker", dict[str, Any] | None]
"""A worker and what it said; None: it has ended."""


class Worker:
    """One worker process in its slot."""

    def __init__(self, slot: Slot, setup: Setup, inbox: queue.SimpleQueue[Message], command: Sequence[str] = WORKER_COMMAND) -> None:
        self.slot = slot
        self.ready = False
        """It has started and waits for jobs."""
        self.leaving = False
        """It has said that it takes no other job: after an error its memory or its device may be in no fit state."""
        self.item: Pending | None = None
        """What it trains, or was given to train."""
        self.taken = False
        """It has begun with that."""
        self.killed = False
        """We have killed it ourselves."""
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the worker lives)
        with _without_interrupts():
            self._process = subprocess.Popen(  # the worker's stdin closes when this process dies, however it dies
                [*command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._output,
                env=_environment(slot),
            )
        self._send(encode_setup(setup))
        threading.Thread(target=self._listen, args=(inbox,), daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def job(self) -> Job | None:
        """The job that it trains, or was given to train."""
        return self.item.job if self.item else None

    def give(self, item: Pending, *, at_a_time: int = 1) -> None:
        """Hands over a job; `at_a_time`: how many may train on its device meanwhile, itself included."""
        self.item, self.taken = item, False
        specs = tuple(spec.model_dump(mode="json") for spec in item.job.specs)
        self._send(encode_job(JobOrder(item.job.run_ids, specs, item.checkpoint, at_a_time)))

    def ask_to_stop(self) -> None:
        """Asks for a checkpoint and an end."""
        self._send(encode(STOP))

    def dismiss(self) -> None:
        """Lets an idle worker go."""
        try:
            assert self._process.stdin is not None
            self._process.stdin.close()
        except OSError:
            pass  # it is gone already

    def kill(self) -> None:
        """Ends the process at once; what it did since its last checkpoint is done again later."""
        self.killed = True
        self._process.kill()

    def wait(self) -> int:
        """Returns the exit status once the process has ended."""
        status = self._process.wait()
        self.dismiss()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return status

    def words(self) -> str:
        """Returns the end of what it printed outside of any job, such as an error while it was starting."""
        self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, self._output.tell() - 8000))
        return self._output.read().decode("utf-8", errors="replace").strip()

    def close(self) -> None:
        """Frees what is left of an ended worker."""
        self._output.close()

    def _listen(self, inbox: queue.SimpleQueue[Message]) -> None:
        assert self._process.stdout is not None
        for message in read_messages(self._process.stdout):
            inbox.put((self, message))
        inbox.put((self, None))

    def _send(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except (OSError, ValueError):
            pass  # it has died: its silence on stdout tells, with the exit status


def how_it_died(status: int) -> str:
    """Returns in words how a worker ended that should not have."""
    if status >= 0:
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
    package_root = str(Path(gapbench.__file__).parent.parent)  # the same gapbench as here, also where it is not installed
    return {
        **MALLOC_VARIABLES,
        **os.environ,
        **dict.fromkeys(THREAD_VARIABLES, str(slot.threads)),
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), package_root])),
        # A run on the CPU does not even start the GPU's driver.
        "CUDA_VISIBLE_DEVICES": slot.device.visible if slot.device.kind == "cuda" else "",
    }
