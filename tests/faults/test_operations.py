"""The N-th file operation fails, once, in any process: it is refused in words or is an outcome, and nothing is lost."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.faults.conftest import EXIT_STATUSES, Place

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="descriptors are looked up in /proc")

POINTS = [("ENOSPC", 1), ("ENOSPC", 8), ("EIO", 21), ("ENOSPC", 34), ("EIO", 55)]
"""Operations that fail: few of many, in every part of a start."""


@pytest.mark.parametrize(("code", "at"), POINTS)
def test_a_file_operation_that_fails_loses_nothing(undisturbed, recovers, tmp_path, at, code):
    place = Place(undisturbed.suite, tmp_path / "results")
    variables = {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "failing"), os.environ["PYTHONPATH"]]),
        "FAULT_FOLDER": str(place.results),
        "FAULT_COUNTER": str(tmp_path / "counter"),
        "FAULT_AT": str(at),
        "FAULT_ERRNO": code,
    }
    status, words = place.run(variables)
    assert (tmp_path / "counter").stat().st_size >= at, "there are fewer operations"
    assert status in EXIT_STATUSES
    assert "Traceback" not in words, words
    recovers(place)
