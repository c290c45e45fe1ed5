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


def test_without_a_question_all_are_named(call: Callable[..., Result]) -> None:
    assert "diffusion" in call("analyze", code=2).output


def test_a_published_series_has_its_critical_batch_by_both_definitions(call: Callable[..., Result], tmp_path: Path) -> None:
    said = call("analyze", "critical-batch", "published:zhang2024", "--output", tmp_path / "zhang").stdout
    assert said.splitlines()[0] == "zhang2024: critical-batch"
    assert "85M, validation cross entropy 3.42 on C4 (batch sizes in sequences of 512 tokens)" in said
    assert "critical batch size 2,235 (95 % interval 1,884 to 2,652) examples" in said.replace("\n", " ").replace("  ", " ")
    assert "(Zhang et al. 2024) 447." in " ".join(said.split())
    assert (tmp_path / "zhang" / "steps_vs_batch_size.svg").is_file()


def test_a_csv_file_has_its_critical_batch(call: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("batch_size,steps\n" + "".join(f"{2**power},{50 * (1 + 200 / 2**power)}\n" for power in range(4, 14)))
    said = " ".join(call("analyze", "critical-batch", file).stdout.split())
    assert "The target: critical batch size 200 (95 % interval 200 to 200)" in said
