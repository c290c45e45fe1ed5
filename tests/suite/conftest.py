"""Loading suites that a test writes down as text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gapbench.core.errors import SuiteError
from gapbench.suite import Suite, load_suite


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a suite file into an empty working directory; `schema` and `name` are put before the text."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str, file: str = "suite.toml", *, header: bool = True) -> Path:
        text = textwrap.dedent(text).lstrip("\n")
        path = Path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'schema = 1\nname = "{path.stem}"\n{text}' if header else text)
        return path

    return write_file


@pytest.fixture
def load(write: Callable[..., Path]) -> Callable[..., Suite]:
    """Loads a suite from its text."""
    return lambda text, **options: load_suite(write(text), **options)


@pytest.fixture
def mistakes(write: Callable[..., Path]) -> Callable[..., list[str]]:
    """Returns the mistakes of a suite, as shown."""

    def find(text: str, *, header: bool = True, **options: Any) -> list[str]:
        with pytest.raises(SuiteError) as caught:
            load_suite(write(text, header=header), **options)
        return [str(problem) for problem in caught.value.problems]

    return find
