"""The command line with the fake worker, for tests that need a process of its own: `fake_cli.py run SUITE ...`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from gapbench import execution, report
from gapbench.api import running
from gapbench.cli import main
from gapbench.execution import executor

executor.WORKER_COMMAND = (sys.executable, str(Path(__file__).parents[1] / "execution" / "fake_worker.py"))
running.execute = lambda directory, runs, selected, settings, **more: execution.execute(
    directory, runs, selected, dataclasses.replace(settings, checkpoint_seconds=0.05), **more
)
report.drawings = lambda _: {}  # they take longer than everything else here

if __name__ == "__main__":
    main()
