"""Parent and workers are killed at random moments: the same command goes on and ends with the same numbers. A seed repeats a failure."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from contextlib import suppress

import psutil
import pytest

from tests.faults.conftest import DEADLINE_SECONDS, EXIT_STATUSES, Place

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")

SEEDS = range(int(os.environ.get("GAPBENCH_FAULT_SEEDS", "1")))
"""One in CI; the variable makes it a long run."""

KILLS = 5
"""For each seed."""


@pytest.mark.parametrize("seed", SEEDS)
def test_random_kills_change_no_number(undisturbed, recovers, tmp_path, seed):
    place, chance = Place(undisturbed.suite, tmp_path / "results"), random.Random(seed)
    for _ in range(KILLS):
        process = place.start({"FAKE_UPDATE_SECONDS": "0.02"}, retry=True)
        children = []
        if chance.random() > 0.15:  # the others die while they start
            deadline = time.monotonic() + DEADLINE_SECONDS
            while process.poll() is None and not children:
                assert time.monotonic() < deadline
                with suppress(psutil.NoSuchProcess):
                    children = psutil.Process(process.pid).children()
                time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.8))
        what = chance.choice(["parent", "worker", "both", "terminate"])
        for child in children if what in ("worker", "both") else []:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        if what in ("parent", "both"):
            process.kill()
        if what == "terminate":
            process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode in {*EXIT_STATUSES, -signal.SIGKILL, -signal.SIGTERM}, (seed, errors.decode())
        assert b"Traceback" not in errors, (seed, errors.decode())
    recovers(place)
