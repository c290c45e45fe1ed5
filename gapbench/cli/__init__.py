"""The command line: commands parse, call `api` and print."""

# ruff: noqa: E402 - what is said first is for the imports below it

from __future__ import annotations

import gc

# Half of the time of a short command is imports. They make many objects and no garbage, which it takes a tenth to look for.
gc.set_threshold(50_000, 20, 20)

from gapbench.cli import analyze, inventory, sharing, tuning  # noqa: F401 - they add their commands
from gapbench.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """The console script `gapbench`."""
    app()
