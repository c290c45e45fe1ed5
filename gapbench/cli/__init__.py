"""The command line: commands parse, call `api` and print."""

# ruff: noqa: E402 - what is said first is for the imports below it

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

# Half of the time of a short command is imports. They make many objects and no garbage, which it takes a tenth to look for.
gc.set_threshold(50_000, 20, 20)

from gapbench.cli import analyze, inventory, sharing, tuning  # noqa: F401 - they add their commands
from gapbench.cli.app import app
from gapbench.core.errors import OutputError

__all__ = ["app", "main"]

T = TypeVar("T")


class _Output:
    """Standard output whose failures are errors with words; a reader that goes away (a closed pipe) stays what it is to its writers."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text. Raises OutputError where that fails."""
        return self._tried(lambda: self._stream.write(text))

    def flush(self) -> None:
        """Writes what is held back. Raises OutputError where that fails."""
        self._tried(self._stream.flush)

    def _tried(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            raise OutputError(f"standard output cannot be written to ({getattr(error, 'strerror', None) or error})") from error


def main() -> None:
    """The console script `gapbench`."""
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the end of the process
    try:
        if sys.stdout is None:
            raise OutputError("standard output is closed; open it, or send it away with >/dev/null")
        sys.stdout = cast("TextIO", _Output(sys.stdout))
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _quiet()
    except OutputError as error:
        _quiet()
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_status) from None


def _quiet() -> None:
    """Sends what is still held back nowhere: the interpreter would complain about it when it ends."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
