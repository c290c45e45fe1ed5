"""The parent of the workers stays light."""

from __future__ import annotations

import subprocess
import sys


def test_the_parent_imports_no_torch():
    code = "import sys, gapbench.execution, gapbench.execution.scheduler, gapbench.execution.worker; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
