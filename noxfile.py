"""Sessions: tests, lint, types, smoke, lowest. `nox -s lint types` for a quick look, `nox` for all but `lowest`."""

import os
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "smoke"]
nox.options.reuse_existing_virtualenvs = True
CONSTRAINTS = ("-c", "constraints.txt")


@nox.session
def tests(session: nox.Session) -> None:
    session.install(*CONSTRAINTS, "-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    session.install(*CONSTRAINTS, "ruff")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    session.install(*CONSTRAINTS, "-e", ".[dev]")
    session.run("mypy")


@nox.session
def smoke(session: nox.Session) -> None:
    """Trains tiny MNIST subsets; data from GAPBENCH_DATA, a folder shared/data beside the checkout, or the network."""
    session.install(*CONSTRAINTS, "-e", ".")
    beside = Path("../shared/data").resolve()
    data = os.environ.get("GAPBENCH_DATA") or (str(beside) if beside.is_dir() else "")
    where = ("--data-dir", data) if data else ()
    session.run("gapbench", "run", "suites/smoke.toml", "--results", session.create_tmp(), *where)


@nox.session
def lowest(session: nox.Session) -> None:
    """The oldest versions that pyproject.toml allows; needs uv to resolve them."""
    session.install("uv")
    session.run(
        "uv",
        "pip",
        "compile",
        "--resolution",
        "lowest-direct",
        "--extra",
        "test",
        "pyproject.toml",
        "-o",
        f"{session.create_tmp()}/lowest.txt",
    )
    session.install("-r", f"{session.create_tmp()}/lowest.txt")
    session.install("--no-deps", "-e", ".")
    session.run("pytest", *session.posargs)
