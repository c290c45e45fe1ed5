"""Quick answers: help, plan and tab completion import nothing that they do not need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "torchvision", "pandas", "scipy", "matplotlib", "pyarrow", "sklearn", "numpy", "jinja2", "asyncio"}
"""What trains, tabulates or draws."""

PROGRAM = """
import atexit, sys
atexit.register(lambda: print("IMPORTED", *sorted(sys.modules), file=sys.stderr))
sys.argv = ["gapbench", *sys.argv[1:]]
from gapbench.cli import main
main()
"""


def answer(*arguments: str, **environment: str) -> tuple[str, set[str]]:
    """Returns what a command prints and the modules that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    line = next(line for line in done.stderr.splitlines() if line.startswith("IMPORTED "))
    return done.stdout, set(line.split()[1:])


def complete(shell: str, words: str) -> tuple[str, set[str]]:
    """Asks for a completion as the script that `--install-completion` installs does."""
    parts = words.split(" ")
    protocol = {
        "bash": {"COMP_WORDS": words, "COMP_CWORD": str(len(parts) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": words},
        "fish": {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    return answer(_GAPBENCH_COMPLETE=f"complete_{shell}", **protocol)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("run", "--help"), ("doctor", "--help")], ids=" ".join)
def test_help_imports_the_commands_alone(arguments: tuple[str, ...]) -> None:
    text, modules = answer(*arguments)
    assert text
    assert not modules & HEAVY
    rooms = {name.split(".")[1] for name in modules if name.startswith("gapbench.")}
    parts = {name for name in modules if name.startswith(("gapbench.api.", "gapbench.console."))}
    assert (rooms, parts) == ({"api", "cli", "console", "core"}, set()), "name parts of api and console only inside a command"


@pytest.mark.parametrize("arguments", [("plan", "suites/quickstart.toml"), ("ls", "models"), ("ls", "suites"), ("schema",)], ids=" ".join)
def test_questions_about_suites_import_nothing_that_trains_or_draws(arguments: tuple[str, ...]) -> None:
    text, modules = answer(*arguments)
    assert text
    assert not modules & HEAVY


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("gapbench pl", "plan"),
        ("gapbench run quick", "quickstart"),
        ("gapbench run suites/quick", "suites/quickstart.toml"),
        ("gapbench plan quickstart --set recipe=hoffer2017/f1", "recipe=hoffer2017/f1-mnist"),
        ("gapbench ls mod", "models"),
        ("gapbench data verify mn", "mnist"),
    ],
)
def test_completion_answers_without_what_trains_or_draws(shell: str, words: str, expected: str) -> None:
    text, modules = complete(shell, words)
    assert expected in text
    assert not modules & HEAVY
