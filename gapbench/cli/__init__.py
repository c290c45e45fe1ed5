"""The command line: commands parse, call `api` and print."""

from __future__ import annotations

from gapbench.cli import bench, conformity, more, schema, sharing, status, tuning  # noqa: F401  (their commands register themselves)
from gapbench.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """The console script `gapbench`."""
    app()
