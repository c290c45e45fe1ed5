"""Exceptions of gapbench. The command line prints their text without a traceback and exits with `exit_status`."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class GapbenchError(Exception):
    """Base of every error that gapbench raises on purpose; its text names the place and the remedy."""

    exit_status = 2


_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys or nobody sees."""


@dataclass(frozen=True)
class Problem:
    """One mistake in a suite file: where it stands and what would be right."""

    place: str
    """`file:line: key path`, as much of it as is known."""
    message: str

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}" if self.place else self.message
        return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class SuiteError(GapbenchError):
    """A suite file that cannot be run. Carries every mistake found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UnknownNameError(GapbenchError):
    """A name that is not in a registry; the text holds the nearest spelling and what is known."""


class DataError(GapbenchError):
    """A data set that is missing, corrupt or not in the expected form."""


class StoreError(GapbenchError):
    """A results directory that cannot be used: locked, newer schema, somebody else's suite."""


class UnwritableError(StoreError):
    """A results directory that may be read and not written to."""


class LockedError(StoreError):
    """A run that another process is still training."""


class OutputError(GapbenchError):
    """What was to be printed could not be."""


class DeviceError(GapbenchError):
    """A device that does not exist or cannot be used."""


class TrainingError(GapbenchError):
    """A run that cannot be trained as specified (found only once the model is built)."""


# Where in a user's own code an error was raised.

_PACKAGE = Path(__file__).resolve().parent.parent
_LIBRARIES = {Path(sysconfig.get_paths()[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}


def place_of(error: BaseException) -> str:
    """Returns ` (my.py:12)`, the innermost line that is neither gapbench's nor a library's; empty where there is none."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(frame.filename)]
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""


def _is_library(file: str) -> bool:
    path = Path(file).resolve()
    return file.startswith("<") or _PACKAGE in path.parents or not _LIBRARIES.isdisjoint(path.parents) or "site-packages" in path.parts


class ExportError(GapbenchError):
    """Nothing was asked for, or two things under one name."""
