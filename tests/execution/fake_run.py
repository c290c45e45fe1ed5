"""Runs a suite with the fake worker, as `gapbench run` would, in a process that can be killed: SUITE RESULTS [ARGUMENTS AS JSON]."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from gapbench import api, execution
from gapbench.api import running
from gapbench.core.errors import GapbenchError

FAKE_WORKER = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))

running.execute = lambda directory, runs, selected, settings, **more: execution.execute(
    directory,
    runs,
    selected,
    dataclasses.replace(settings, checkpoint_seconds=0.02),
    executor=execution.LocalProcesses(FAKE_WORKER),
    **more,
)
running.write_report = lambda folder: None  # figures take longer than everything else here

if __name__ == "__main__":
    try:
        done = api.run(sys.argv[1], results=sys.argv[2], **json.loads(sys.argv[3] if len(sys.argv) > 3 else "{}"))
    except GapbenchError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
    sys.exit(done.exit_status)
