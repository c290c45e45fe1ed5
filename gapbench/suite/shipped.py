"""The suites that come with gapbench, and finding a suite by path or by name."""

from __future__ import annotations

from pathlib import Path

from gapbench.core.errors import Problem, SuiteError
from gapbench.core.registry import unknown_name

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_suites() -> dict[str, Path]:
    """Returns the shipped suites by name: those of the installed package, or of the checkout that it runs from."""
    folders = [_PACKAGE / "_suites", _PACKAGE.parent / "suites"]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.toml"))} if folder else {}


def find_suite(name: str | Path) -> Path:
    """Returns the file of a suite that is named by path, or by bare name among the shipped ones.

    Raises:
        SuiteError: there is no such file.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    suites = shipped_suites()
    bare = str(name)
    if "/" not in bare and "\\" not in bare:
        if bare.removesuffix(".toml") in suites:
            return suites[bare.removesuffix(".toml")]
        if not bare.endswith(".toml") and not path.is_dir():
            raise SuiteError([Problem("", unknown_name("suite", bare, suites))])
    if path.is_dir():
        raise SuiteError([Problem("", f"{path} is a directory; name a .toml file in it")])
    raise SuiteError([Problem("", f"there is no suite file {path}; name a .toml file, or one of the shipped suites: {', '.join(suites)}")])
