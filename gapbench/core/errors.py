"""Exceptions of gapbench. The command line prints their text without a traceback and exits with `exit_status`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class GapbenchError(Exception):
    """Base of every error that gapbench raises on purpose; its text names the place and the remedy."""

    exit_status = 2


@dataclass(frozen=True)
class Problem:
    """One mistake in a suite file: where it stands and what would be right."""

    place: str
    """`file:line: key path`, as much of it as is known."""
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


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


class DeviceError(GapbenchError):
    """A device that does not exist or cannot be used."""


class TrainingError(GapbenchError):
    """A run that cannot be trained as specified (found only once the model is built)."""
