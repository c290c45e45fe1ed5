"""Sizes are counted once: shipped, kept in the cache, or asked of a process that has torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

import pytest

from gapbench.catalog.plugins import load_plugins
from gapbench.sizing import sizes
from gapbench.sizing.sizes import Answer, Counted, model_size
from gapbench.suite import load_suite
from gapbench.suite.runspec import Component, RunSpec

SB = load_suite("quickstart", only="arm=SB,seed=0").runs[0].spec
SIZE = {"parameters": 1, "multiplications": 2, "activations": 3, "layers": 4, "recomputed": 0}

PLUGIN = """
import gapbench
from torch import nn

@gapbench.model(name="own")
def own(input_shape: tuple[int, ...], classes: int, *, width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, classes))
"""


class Counter:
    """Counts nothing, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Counted] = []
        self.answer: Answer = {"size": SIZE}

    def __call__(self, wanted: Sequence[Counted]) -> list[Answer]:
        self.asked += wanted
        return [self.answer] * len(wanted)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Counter]:
    monkeypatch.setenv("GAPBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sizes, "_sizes", {})
    before, counter = sizes._counter, Counter()
    sizes.count_with(counter)
    yield counter
    sizes.count_with(before)


def with_widths(*widths: int) -> RunSpec:
    model = SB.model.model_copy(update={"options": {**SB.model.options, "widths": list(widths)}})
    return SB.model_copy(update={"model": model})


def another_process() -> None:
    sizes._sizes.clear()


def test_what_the_shipped_suites_train_is_known(counter: Counter) -> None:
    for suite in ("quickstart", "mnist-f1", "resnet44-cifar10", "hoffer2017-table1"):
        sizes.count_models(run.spec for run in load_suite(suite).runs)
    assert counter.asked == []
    size = model_size(SB)
    assert size.multiplications == 64 * 128 + 2 * 128 * 128 + 128 * 10


def test_another_model_is_counted_once_and_kept(counter: Counter) -> None:
    for _ in range(2):
        found = [model_size(with_widths(5, 6)), model_size(with_widths(5, 6)), model_size(with_widths(7))]
        assert found == [sizes.Size(**SIZE)] * 3
        another_process()
    assert [one.options["widths"] for one in counter.asked] == [[5, 6], [7]]


def test_all_models_of_a_plan_are_asked_for_at_once(counter: Counter) -> None:
    sizes.count_models([with_widths(5), SB, with_widths(6), with_widths(5)])
    assert len(counter.asked) == 2


def test_options_that_a_run_is_older_than_have_their_defaults(counter: Counter) -> None:
    older = SB.model.model_copy(update={"options": {name: value for name, value in SB.model.options.items() if name != "norm"}})
    assert model_size(SB.model_copy(update={"model": older})) == model_size(SB)
    assert counter.asked == []


def test_what_cannot_be_counted_is_said_once(counter: Counter, capsys: pytest.CaptureFixture[str]) -> None:
    counter.answer = {"error": "ValueError: not today"}
    assert model_size(with_widths(5)) is None
    assert model_size(with_widths(5)) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: not today" in line
    assert "not predicted" in line


def test_a_damaged_or_unwritable_cache_means_that_it_is_counted_again(counter: Counter, tmp_path: Path) -> None:
    model_size(with_widths(5))
    (file,) = (tmp_path / "cache" / "sizes").iterdir()
    file.write_text("{")
    another_process()
    assert model_size(with_widths(5)) == sizes.Size(**SIZE)
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("no folder")
    another_process()
    assert model_size(with_widths(5)) == sizes.Size(**SIZE)
    assert len(counter.asked) == 3


def test_a_plugin_that_is_edited_is_counted_anew(counter: Counter, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    spec = SB.model_copy(update={"model": Component(name="own")})
    for text in (PLUGIN, PLUGIN, PLUGIN + "\n# another text\n"):
        file.write_text(text)
        load_plugins([file])
        model_size(spec)
        another_process()
    assert len({one.text for one in counter.asked}) == len(counter.asked) == 2


def test_a_model_whose_plugin_is_not_loaded_is_unknown(counter: Counter) -> None:
    assert model_size(SB.model_copy(update={"model": Component(name="somebody's")})) is None
    assert counter.asked == []


def test_a_process_of_its_own_counts_a_plugin(counter: Counter, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.py"
    file.write_text(PLUGIN + '\nprint("a plugin that prints")\n')
    load_plugins([file])
    sizes.count_with(sizes._count_in_a_process)
    size = model_size(SB.model_copy(update={"model": Component(name="own", options={"width": 5})}))
    assert size == sizes.Size(
        parameters=64 * 5 + 5 + 50 + 10, multiplications=64 * 5 + 50, activations=64 + 5 + 5 + 10, layers=2, recomputed=0
    )
    assert "counting the size of own, once" in capsys.readouterr().err


def test_a_process_that_fails_says_why(counter: Counter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no torch here')")
    monkeypatch.setattr(sizes, "COUNTING_COMMAND", command)
    sizes.count_with(sizes._count_in_a_process)
    assert model_size(with_widths(5)) is None
    assert "no torch here" in capsys.readouterr().err


def test_the_shipped_counts_are_one_a_line() -> None:
    lines = resources.files("gapbench.catalog").joinpath("sizes.json").read_text(encoding="utf-8").splitlines()
    assert (lines[0], lines[-1]) == ("[", "]")
    assert all(json.loads(line.rstrip(","))["size"].keys() == SIZE.keys() for line in lines[1:-1])
