"""Provenance says with what and where a run was trained."""

from __future__ import annotations

import platform
import subprocess

import pytest

import gapbench
from gapbench.store import describe_machine, describe_session
from gapbench.store.provenance import git_state


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_versions_and_machine_are_recorded():
    found = describe_machine({"own.py": "0123"})
    version, _, code = found["gapbench_version"].partition("+")
    assert version == gapbench.__version__
    assert len(code) == 8
    assert found["plugins"] == '{"own.py": "0123"}'
    assert found["python_version"] == platform.python_version()
    assert found["torch_version"]
    assert found["cpu_name"]


def test_the_git_state_of_the_tree_that_a_package_belongs_to_is_recorded(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    git(tmp_path, "init")
    (package / "__init__.py").write_text("one")
    git(tmp_path, "add", "package")
    git(tmp_path, "commit", "-m", "one")
    clean = git_state(package)
    assert len(clean["git_commit"]) == 40
    assert clean["git_dirty"] is False
    (package / "__init__.py").write_text("two")
    assert git_state(package) == {**clean, "git_dirty": True}
    installed = tmp_path / "venv"
    installed.mkdir()
    (installed / "__init__.py").write_text("one")
    assert git_state(installed) == {"git_commit": None, "git_dirty": None}  # in somebody's tree, and not of it


@pytest.mark.parametrize("variable", ["GIT_CEILING_DIRECTORIES", "PATH"])
def test_outside_of_a_working_tree_and_without_git_there_is_no_git_state(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, str(tmp_path.parent))
    assert git_state(tmp_path) == {"git_commit": None, "git_dirty": None}


def test_a_session_adds_the_time_and_what_the_caller_knows():
    session = describe_session({"gapbench_version": "1"}, threads=2)
    assert session["threads"] == 2
    assert session["started_at"].endswith("+00:00")
