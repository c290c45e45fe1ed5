"""On the official files, where they are at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gapbench import catalog
from gapbench.suite.runspec import Component, RunSpec
from gapbench.workloads.datasets import DataContext, load, split, verify


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_official_files_are_what_the_catalog_says(name: str, real_data: Path, tmp_path: Path, make_spec: Callable[..., RunSpec]) -> None:
    context = DataContext(real_data, tmp_path, offline=True)
    if any(file.status == "missing" for file in verify(name, context)):
        pytest.skip(f"no {name} here")
    pool, entry = load(Component(name=name), context), catalog.datasets()[name]
    assert pool.images.dtype == np.uint8
    assert pool.images.shape[1:] == entry.shape
    assert (pool.official_train, pool.classes, pool.pixel_max) == (entry.train_examples, entry.classes, entry.pixel_max)
    assert entry.train_examples is not None
    assert len(pool.labels) == len(pool.images) == entry.train_examples + (entry.test_examples or 0)
    counts = np.bincount(pool.labels, minlength=pool.classes)
    assert (counts > 0.9 * len(pool.labels) / pool.classes * (0.95 if name == "mnist" else 1)).all()
    drawn = split(pool, make_spec(name, options={"train_size": 1024, "test_size": 512}, holdout=0.1))
    assert (len(drawn.train), len(drawn.validation), len(drawn.test), len(drawn.train_evaluation)) == (922, 102, 512, 512)


def test_torchvision_reads_the_same_mnist_images(real_data: Path, tmp_path: Path) -> None:
    import gzip

    import torchvision

    packed = sorted((real_data / "MNIST" / "raw").glob("*.gz"))
    if len(packed) != 4:
        pytest.skip("no packed mnist here")
    for file in packed:  # torchvision wants them unpacked
        target = tmp_path / "MNIST" / "raw" / file.stem
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.decompress(file.read_bytes()))
    pool = load(Component(name="mnist"), DataContext(real_data, tmp_path / "cache", offline=True))
    unpacked = load(Component(name="mnist"), DataContext(tmp_path, tmp_path / "cache2", offline=True))
    assert np.array_equal(pool.images, unpacked.images)
    test = torchvision.datasets.MNIST(tmp_path, train=False)
    assert np.array_equal(pool.images[60000:, ..., 0], test.data.numpy())
    assert np.array_equal(pool.labels[60000:], test.targets.numpy())
