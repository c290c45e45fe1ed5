"""What becomes of the command line where its output has no place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_output_is_one_error():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ended = subprocess.run(
            [sys.executable, "-m", "gapbench", "ls", "recipes"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: standard output cannot be written (No space left on device)")
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(os.name != "posix", reason="shells close streams otherwise elsewhere")
def test_a_closed_output_is_one_error():
    command = f"{sys.executable} -m gapbench ls recipes >&-"
    ended = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.strip() == "error: standard output is closed; send it somewhere, such as to a file or to /dev/null"


@pytest.mark.skipif(os.name != "posix", reason="needs a shell with pipes")
def test_a_reader_that_goes_away_is_no_error_to_talk_of():
    ended = subprocess.run(["sh", "-c", f"{sys.executable} -m gapbench ls recipes | head -1"], capture_output=True, text=True, check=False)
    assert ended.stdout.startswith("digits")
    assert ended.stderr == ""
