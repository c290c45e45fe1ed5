"""`gapbench analyze WHAT` prints conclusions, and writes only where it is told to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from typer.testing import Result


def test_the_papers_curves_are_printed_and_written(call: Callable[..., Result], tmp_path: Path) -> None:
    said = call("analyze", "diffusion", "published:hoffer2017", "--output", tmp_path / "paper").stdout
    assert "figure2a, batch size 64, updates 1,000 to 62,500: exponent −0.13, standard error 0.04 (9 points)." in said
    assert said.splitlines()[0] == "hoffer2017: diffusion"
    assert said.splitlines()[-1].endswith("paper (2 files)")


def test_wrong_input_is_refused(call: Callable[..., Result], refused: Callable[..., str]) -> None:
    assert "unknown paper" in refused("analyze", "diffusion", "published:hoffer")
    assert "must be greater" in refused("analyze", "diffusion", "--first", 20, "--last", 10)
    assert "diffusion" in call("analyze", code=2).output
