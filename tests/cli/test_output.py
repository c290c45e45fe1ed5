"""Output that cannot be written, and results that cannot: errors with words, and tables that are printed all the same."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest

GAPBENCH = f"{sys.executable} -m gapbench"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", ["ls", "--help", "ls suites --help", "schema"])
@pytest.mark.parametrize(
    ("stdout", "words"), [(">/dev/full", r"cannot be written to \(No space left on device\)"), (">&-", "is closed; open it")]
)
def test_a_full_or_closed_standard_output_is_an_error_without_a_traceback(own_folder, command, stdout, words):
    done = subprocess.run(f"{GAPBENCH} {command} {stdout}", shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(f"error: standard output {words}.*\n", done.stderr)


def test_without_standard_error_and_with_a_reader_that_goes_away_it_works(own_folder):
    for rest in ("2>&- >/dev/null", "| true"):
        done = subprocess.run(f"{GAPBENCH} ls models {rest}", shell=True, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def read_only(monkeypatch, tmp_path_factory):
    """Makes a folder read-only, also for an administrator."""
    opened = Path.open
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("temporary")))

    def make(folder):
        def refuse(path, mode="r", *arguments, **options):
            if not set("wxa+").isdisjoint(mode) and Path(folder).absolute() in path.absolute().parents:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return opened(path, mode, *arguments, **options)

        monkeypatch.setattr(Path, "open", refuse)

    return make


@pytest.mark.parametrize(
    "command", [["report", "small"], ["report", "small", "--verdict", "full"], ["compare", "small", "small"], ["status", "small"]]
)
def test_results_that_cannot_be_written_to_are_shown_all_the_same(call, suite, read_only, command):
    call("run", suite)
    expected = call(*command).stdout
    read_only("results/small")
    before = sorted(Path("results").rglob("*"))
    done = call(*command)
    lines = [line for line in expected.splitlines() if not re.match("page:|tables:|figures:", line)]
    assert [line for line in lines if line not in done.stdout] == []
    assert sorted(Path("results").rglob("*")) == before
    if command[0] == "report":
        (place,) = re.findall("results/small cannot be written to: what is made of it goes to (.*)", done.stderr)
        assert (Path(place) / "report.html").exists()


def test_no_message_about_results_that_are_there_advises_to_remove_them(call, refused, suite):
    call("run", suite)
    call("run", suite, "--force", "--only", "arm=SB,seed=0")
    assert "1 old attempt beside them, kept" in call("status", "small").stdout
    for target in ("c.csv", "b.zip", "folder"):
        Path(target).mkdir()
    options = (
        "export small --bundle b.zip",
        "export small --csv folder",
        "compare small small --csv c.csv",
        "merge small small --into folder",
    )
    for command in options:
        assert not re.search("remove|delete", refused(*command.split()))
