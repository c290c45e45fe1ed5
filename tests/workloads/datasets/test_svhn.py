"""SVHN, on files of the real format."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from gapbench.core.errors import DataError
from gapbench.suite.runspec import Component
from gapbench.workloads.datasets import DataContext, load, svhn
from gapbench.workloads.datasets.cache import md5_of_bytes
from gapbench.workloads.datasets.official import OfficialDataset


def mat(seed: int, count: int) -> tuple[bytes, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A compressed version 5 file: X is 32 x 32 x 3 x n, y is n x 1 with 10 for the digit 0."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(1, count + 1).reshape(-1, 1).astype(np.uint8) % 10
    file = io.BytesIO()
    savemat(file, {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels).astype(np.uint8)}, do_compression=True)
    return file.getvalue(), images, labels.reshape(-1)


def tiny(dataset: OfficialDataset, context: DataContext) -> tuple[OfficialDataset, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    parts = [mat(seed, 12 + seed) for seed in range(len(dataset.files))]
    for file, (content, _, _) in zip(dataset.files, parts, strict=True):
        (context.root / file.path).write_bytes(content)
    files = tuple(replace(file, md5=md5_of_bytes(content)) for file, (content, _, _) in zip(dataset.files, parts, strict=True))
    return replace(dataset, files=files), np.concatenate([part[1] for part in parts]), np.concatenate([part[2] for part in parts])


@pytest.mark.parametrize(("name", "train"), [("svhn", 12), ("svhn_extra", 25)])
def test_images_and_digits_are_read_with_the_test_set_last(
    name: str, train: int, context: DataContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, images, labels = tiny(getattr(svhn, name), context)
    monkeypatch.setattr(svhn, name, dataset)
    pool = load(Component(name=name.replace("_", "-")), context)
    np.testing.assert_array_equal(pool.images, images)
    np.testing.assert_array_equal(pool.labels, labels)
    assert 0 in pool.labels
    assert (pool.classes, pool.pixel_max, pool.official_train) == (10, 255.0, train)


def test_torchvision_reads_the_same(context: DataContext, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets as theirs

    dataset, images, labels = tiny(svhn.svhn, context)
    split_list = {name: list(values) for name, values in theirs.SVHN.split_list.items()}
    split_list["train"][2] = dataset.files[0].md5
    monkeypatch.setattr(theirs.SVHN, "split_list", split_list)
    train = theirs.SVHN(context.root, split="train")
    np.testing.assert_array_equal(train.data.transpose(0, 2, 3, 1), images[:12])
    np.testing.assert_array_equal(train.labels, labels[:12])


def test_files_and_checksums_are_torchvisions() -> None:
    import torchvision.datasets as theirs

    expected = {split: tuple(values[1:]) for split, values in theirs.SVHN.split_list.items()}
    assert {file.torchvision_split: (file.path, file.md5) for file in svhn.svhn_extra.files} == expected
    assert svhn.svhn.files == (svhn.TRAIN, svhn.TEST)
    assert svhn.svhn.torchvision_class == svhn.svhn_extra.torchvision_class == theirs.SVHN.__name__


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.zeros((32, 32, 3, 2), np.uint8)}, "'y'"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": [1, 2, 3]}, "3 labels, and pixels of type uint8"),
        ({"X": np.zeros((32, 32, 3, 2)), "y": [1, 2]}, "pixels of type float64"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": [0, 2]}, "labels must be 1 to 10"),
    ],
)
def test_files_of_another_form_are_refused_in_words(
    arrays: dict[str, Any], message: str, context: DataContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, _, _ = tiny(svhn.svhn, context)
    file = io.BytesIO()
    savemat(file, arrays)
    (context.root / dataset.files[0].path).write_bytes(file.getvalue())
    changed = replace(dataset, files=(replace(dataset.files[0], md5=md5_of_bytes(file.getvalue())), dataset.files[1]))
    monkeypatch.setattr(svhn, "svhn", changed)
    with pytest.raises(DataError, match=f"not the known form: .*{message}"):
        load(Component(name="svhn"), context)


@pytest.mark.parametrize("content", [b"", b"no matlab file " * 20, mat(0, 3)[0][:300]], ids=["empty", "text", "truncated"])
def test_what_is_no_matlab_file_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read as a MATLAB file"):
        svhn.parse_mat(content)
