"""Provenance says with what and where a run was trained."""

from __future__ import annotations

import platform
import re
import subprocess

import pytest

import gapbench
from gapbench.store import describe_machine, describe_session
from gapbench.store.provenance import code_version, git_state


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_versions_and_machine_are_recorded():
    found = describe_machine()
    assert found["gapbench_version"] == code_version()
    assert found["python_version"] == platform.python_version()
    assert found["torch_version"]
    assert found["cpu_name"]


def test_the_version_changes_with_the_code_and_with_nothing_else(tmp_path):
    def written(folder, code, **others):
        (tmp_path / folder / "room").mkdir(parents=True)
        (tmp_path / folder / "room" / "one.py").write_bytes(code)
        for name, text in others.items():
            (tmp_path / folder / name).write_text(text)
        return code_version(tmp_path / folder)

    version = written("a", b"x = 1\n")
    assert re.fullmatch(re.escape(gapbench.__version__) + r"\+[0-9a-f]{12}", version)
    assert version == written("b", b"x = 1\r\n", notes="of a user")  # a checkout of Windows
    assert version != written("c", b"x = 2\n")


@pytest.fixture
def package(tmp_path):
    """A package in a checkout of its own."""
    git(tmp_path, "init")
    for name in ("package/__init__.py", "notes"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    return tmp_path / "package"


def test_the_git_state_of_a_packages_own_checkout_is_recorded(package):
    clean = git_state(package)
    assert len(clean["git_commit"]) == 40
    assert clean["git_dirty"] is False
    (package.parent / "notes").write_text("two")
    assert git_state(package) == clean  # no code
    (package / "__init__.py").write_text("two")
    assert git_state(package) == {**clean, "git_dirty": True}


def test_a_checkout_that_a_package_is_only_installed_in_is_not_its_own(package):
    installed = package.parent / "venv"
    installed.mkdir()
    (installed / "__init__.py").write_text("one")
    assert git_state(installed) == {"git_commit": None, "git_dirty": None}


@pytest.mark.parametrize("variable", ["GIT_CEILING_DIRECTORIES", "PATH"])
def test_outside_of_a_working_tree_and_without_git_there_is_no_git_state(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, str(tmp_path.parent))
    assert git_state(tmp_path) == {"git_commit": None, "git_dirty": None}


def test_a_session_adds_the_time_and_what_the_caller_knows():
    session = describe_session({"gapbench_version": "1"}, threads=2)
    assert session["threads"] == 2
    assert session["started_at"].endswith("+00:00")
