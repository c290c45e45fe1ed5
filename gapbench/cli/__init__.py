"""The command line: commands parse, call `api` and print."""

# ruff: noqa: E402 - what is said first is for the imports below it

from __future__ import annotations

import errno
import gc
import os
import sys
from typing import NoReturn

# Half of the time of a short command is imports. They make many objects and no garbage, which it takes a tenth to look for.
gc.set_threshold(50_000, 20, 20)

from gapbench.cli import analyze, inventory, sharing, tuning  # noqa: F401 - they add their commands
from gapbench.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """The console script `gapbench`."""
    if sys.stdout is None:
        _fail("standard output is closed; send it somewhere, such as to a file or to /dev/null")
    try:
        app()
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG, errno.EDQUOT):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer is not tried again at the end
        _fail(f"standard output cannot be written ({error.strerror}); results are not touched by that")


def _fail(text: str) -> NoReturn:
    print(f"error: {text}", file=sys.stderr)
    sys.exit(2)
