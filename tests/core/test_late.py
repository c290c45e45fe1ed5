from __future__ import annotations

import subprocess
import sys
import types

import pytest

import gapbench
from gapbench import api, console


@pytest.mark.parametrize("package", [gapbench, api, console], ids=lambda package: package.__name__)
def test_every_name_is_there_and_no_part_stands_in_its_place(package: types.ModuleType) -> None:
    for name in package.__all__:
        assert not isinstance(getattr(package, name), types.ModuleType), name


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        api.trian  # noqa: B018


def test_only_what_is_asked_for_is_imported() -> None:
    unasked = "gapbench.api.comparing", "gapbench.tuning"
    code = f"import sys; from gapbench import api; api.plan; sys.exit(any(name in sys.modules for name in {unasked}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
