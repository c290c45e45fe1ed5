"""Tiny data sets in the official formats, and runs that use them."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapbench.suite.runspec import Component, RunSpec
from gapbench.workloads.datasets import cache, cifar, mnist
from gapbench.workloads.datasets.arrays import DataContext
from gapbench.workloads.datasets.cache import md5_of_bytes
from gapbench.workloads.datasets.official import OfficialDataset, OfficialFile


@pytest.fixture(autouse=True)
def empty_memory() -> Iterator[None]:
    cache.forget()
    yield
    cache.forget()


@pytest.fixture
def context(tmp_path: Path) -> DataContext:
    """Offline, with an empty data directory and an empty cache."""
    (tmp_path / "data").mkdir()
    return DataContext(tmp_path / "data", tmp_path / "cache", offline=True, suite_dir=tmp_path)


@pytest.fixture
def make_spec() -> Callable[..., RunSpec]:
    def make(name: str = "mnist", *, options: dict[str, Any] | None = None, **fields: Any) -> RunSpec:
        values: dict[str, Any] = {
            "dataset": Component(name=name, options=options or {}),
            "model": Component(name="mlp"),
            "optimizer": Component(name="sgd"),
            "batch_size": 8,
            "updates": 10,
            "learning_rate": 0.1,
            "train_examples": 64,
            "reference_batch_size": 8,
            "reference_updates": 10,
            "reference_learning_rate": 0.1,
        }
        return RunSpec.model_validate({**values, **fields})

    return make


def idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


def write(context: DataContext, path: str, content: bytes) -> Path:
    file = context.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


class TinyMnist:
    """Twelve training and five test images in the files of MNIST, whose checksums it replaces."""

    def __init__(self, dataset: OfficialDataset) -> None:
        random = np.random.default_rng(0)
        self.images = random.integers(0, 256, (17, 28, 28), dtype=np.uint8)
        self.labels = np.arange(17) % 10
        parts = (self.images[:12], self.labels[:12], self.images[12:], self.labels[12:])
        self.plain = {file.path: idx_bytes(part) for file, part in zip(dataset.files, parts, strict=True)}
        self.packed = {f"{path}.gz": gzip.compress(content, mtime=0) for path, content in self.plain.items()}
        files = tuple(OfficialFile(path, md5_of_bytes(self.plain[path]), md5_of_bytes(self.packed[f"{path}.gz"])) for path in self.plain)
        self.dataset = replace(dataset, files=files)


@pytest.fixture
def tiny_mnist(monkeypatch: pytest.MonkeyPatch) -> TinyMnist:
    tiny = TinyMnist(mnist.mnist)
    monkeypatch.setattr(mnist, "mnist", tiny.dataset)
    return tiny


class TinyCifar:
    """Three training batches and a test batch of four images each, in the form of CIFAR-10's files."""

    def __init__(self, dataset: OfficialDataset) -> None:
        random = np.random.default_rng(0)
        self.planes = random.integers(0, 256, (16, 3072), dtype=np.uint8)
        self.labels = [int(label) for label in random.integers(0, 10, 16)]
        self.plain = {
            f"cifar-10-batches-py/{name}": pickle.dumps(
                {"batch_label": name, "labels": self.labels[4 * i : 4 * i + 4], "data": self.planes[4 * i : 4 * i + 4]}, protocol=3
            )
            for i, name in enumerate(["data_batch_1", "data_batch_2", "data_batch_3", "test_batch"])
        }
        self.dataset = replace(dataset, files=tuple(OfficialFile(path, md5_of_bytes(content)) for path, content in self.plain.items()))


@pytest.fixture
def tiny_cifar(monkeypatch: pytest.MonkeyPatch) -> TinyCifar:
    tiny = TinyCifar(cifar.cifar10)
    monkeypatch.setattr(cifar, "cifar10", tiny.dataset)
    return tiny


@pytest.fixture
def put(context: DataContext) -> Callable[[dict[str, bytes]], None]:
    """Writes files below the data directory."""

    def put_files(files: dict[str, bytes]) -> None:
        for path, content in files.items():
            write(context, path, content)

    return put_files


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The directory of official files: GAPBENCH_DATA, or shared/data beside the checkout."""
    named = os.environ.get("GAPBENCH_DATA")
    folder = Path(named) if named else Path(__file__).parents[4] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no official files here")
    return folder
