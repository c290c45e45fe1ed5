from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from gapbench import catalog
from gapbench.core.errors import DataError, UnknownNameError
from gapbench.core.registry import load_target
from gapbench.suite.runspec import Component
from gapbench.workloads import datasets
from gapbench.workloads.datasets.arrays import DataContext, Pool
from gapbench.workloads.datasets.official import OfficialDataset
from gapbench.workloads.datasets.splits import SIZE_OPTIONS

BUILT_IN = ["digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "svhn", "svhn-extra", "npz", "imagefolder"]


def test_all_data_sets_are_in_the_catalog() -> None:
    assert datasets.names()[: len(BUILT_IN)] == BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_catalog_agrees_with_the_loader(name: str) -> None:
    entry = catalog.datasets()[name]
    target = load_target(entry.target)
    parameters = dict(inspect.signature(target).parameters)
    assert next(iter(parameters)) == "context"
    assert set(parameters) - {"context"} == set(entry.parameters) - set(SIZE_OPTIONS)
    if isinstance(target, OfficialDataset):
        assert target.name == name


def test_an_unknown_name_gets_the_nearest_spelling(context: DataContext) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: datasets.load(Component(name="minst"), context),
        lambda: datasets.check_available(Component(name="minst"), context),
        lambda: datasets.verify("minst", context),
        lambda: datasets.fetch("minst", context),
    ]
    for call in calls:
        with pytest.raises(UnknownNameError, match='did you mean "mnist"'):
            call()


def test_sizes_of_subsets_do_not_make_another_pool(context: DataContext) -> None:
    whole = datasets.load(Component(name="digits"), context)
    assert datasets.load(Component(name="digits", options={"train_size": 100, "test_size": 50}), context) is whole


def test_nothing_heavy_is_imported_before_a_download() -> None:
    code = (
        "import sys, gapbench.workloads.datasets; print(*sorted({'torch', 'torchvision', 'sklearn', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


calls: list[int] = []


def toy(context: DataContext, *, examples: int = 10) -> Any:
    """A plugin's loader."""
    calls.append(examples)
    if examples == 0:
        raise FileNotFoundError("no such file: toy.bin")
    if examples == 1:
        return np.zeros(3)
    labels = np.arange(examples, dtype=np.int32 if examples == 11 else np.int64) % 2
    return Pool(np.zeros((examples, 2, 2, 1), np.uint8), labels, 2, 255.0, 6)


@pytest.fixture
def toy_entry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = sys.modules.setdefault("toy_plugin", type(sys)("toy_plugin"))
    monkeypatch.setattr(module, "toy", toy, raising=False)
    facts = {"train_examples": 6, "test_examples": 4, "shape": (2, 2, 1), "classes": 2}
    entry = catalog.DatasetEntry(name="toy", summary="toy", target="toy_plugin:toy", **facts)  # type: ignore[arg-type]
    catalog.datasets().add("toy", entry)
    calls.clear()
    datasets._load_plugin.cache_clear()
    yield
    catalog.datasets().remove("toy")


@pytest.mark.usefixtures("toy_entry")
def test_the_pool_of_a_plugin_is_loaded_once_and_again_only_to_see_whether_it_is_the_same(context: DataContext) -> None:
    component = Component(name="toy", options={"examples": 10, "train_size": 3})
    datasets.check_available(component, context)
    assert datasets.load(component, context) is datasets.load(component, context)
    assert calls == [10, 10]


@pytest.mark.usefixtures("toy_entry")
@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (0, "toy: its loader failed: FileNotFoundError: no such file: toy.bin"),
        (1, "toy: its loader must return a .*Pool, not ndarray"),
        (11, "toy: labels must be int64"),
        (12, "toy: it is declared with test_examples = 4, but its pool has 6"),
        (6, "official_train = 6 of 6 leaves no training or no test examples"),
    ],
)
def test_a_plugin_that_breaks_the_rules_is_told_which(examples: int, message: str, context: DataContext) -> None:
    with pytest.raises(DataError, match=message):
        datasets.check_available(Component(name="toy", options={"examples": examples}), context)
