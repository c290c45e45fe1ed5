from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapbench.core.errors import DataError
from gapbench.suite.facts import npz_facts
from gapbench.suite.runspec import Component
from gapbench.workloads.datasets import cache, check_available, load
from gapbench.workloads.datasets.arrays import DataContext

OWN = Component(name="npz", options={"path": "own.npz", "train_size": 0, "test_size": 0})


def arrays(**changed: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    own = {
        "x_train": random.integers(0, 256, (8, 5, 4, 3), dtype=np.uint8),
        "y_train": np.arange(8) % 3,
        "x_test": random.integers(0, 256, (4, 5, 4, 3), dtype=np.uint8),
        "y_test": np.arange(4) % 3,
    }
    return {name: array for name, array in {**own, **changed}.items() if array is not None}


def test_color_images_are_taken_as_they_are(context: DataContext) -> None:
    own = arrays()
    np.savez_compressed(context.suite_dir / "own.npz", **own)
    pool = load(OWN, context)
    assert np.array_equal(pool.images, np.concatenate([own["x_train"], own["x_test"]]))
    assert np.array_equal(pool.labels, np.concatenate([own["y_train"], own["y_test"]]))
    assert (pool.official_train, pool.classes, pool.pixel_max, pool.is_image) == (8, 3, 255.0, True)


def test_gray_images_get_a_channel(context: DataContext) -> None:
    np.savez(context.suite_dir / "own.npz", **arrays(x_train=np.zeros((8, 5, 4), np.uint8), x_test=np.ones((4, 5, 4), np.uint8)))
    assert load(OWN, context).images.shape == (12, 5, 4, 1)


def test_features_stay_floats(context: DataContext) -> None:
    x_train, x_test = np.full((8, 6), -1.5, np.float32), np.full((4, 6), 2.5, np.float32)
    np.savez(context.suite_dir / "own.npz", **arrays(x_train=x_train, x_test=x_test))
    pool = load(OWN, context)
    assert np.array_equal(pool.images, np.concatenate([x_train, x_test]))
    assert (pool.images.dtype, pool.pixel_max, pool.is_image) == (np.float32, 1.0, False)


def test_labels_may_be_small_integers(context: DataContext) -> None:
    np.savez(context.suite_dir / "own.npz", **arrays(y_train=(np.arange(8) % 3).astype(np.uint8)))
    assert load(OWN, context).labels.dtype == np.int64


FEATURES = np.zeros((8, 6), np.float32)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None}, "no array y_test; it needs x_train, y_train, x_test, y_test and has x_train, y_train, x_test"),
        ({"x_train": None, "x_test": None}, "no array x_train and no x_test"),
        ({"y_train": np.zeros(7, np.int64)}, "y_train has 7 labels for 8 examples"),
        ({"y_train": np.arange(8) % 3 + 1}, "y_train has 3 different labels, so they must be 0 to 2, but 3 occurs"),
        ({"y_train": np.arange(8) % 3 - 1}, "but -1 occurs"),
        ({"y_train": np.arange(8) % 3 * 5}, "but 5 occurs"),
        ({"y_train": np.zeros(8, np.int64), "y_test": np.zeros(4, np.int64)}, "only one class"),
        ({"y_test": np.array([0, 1, 2, 3])}, "y_test has the label 3, which y_train does not have"),
        ({"y_train": np.zeros(8)}, "y_train must be integers of shape"),
        ({"y_train": np.zeros((8, 1), np.int64)}, r"not int64 of shape \[8, 1\]"),
        ({"x_train": np.zeros((8, 5, 4, 3))}, r"x_train must be images, uint8 .* not float64 of shape \[8, 5, 4, 3\]"),
        ({"x_train": np.zeros((8, 6), np.uint8)}, "x_train must be images"),
        ({"x_train": np.zeros((8, 6))}, r"not float64 of shape .8, 6.; convert it, for example with .astype"),
        ({"x_train": np.zeros((8, 0), np.float32)}, "x_train are empty"),
        ({"x_test": np.zeros((0, 5, 4, 3), np.uint8)}, "x_test are empty"),
        ({"x_test": np.zeros((4, 5, 5, 3), np.uint8)}, "only their lengths may differ"),
        ({"x_test": np.zeros((4, 6), np.float32)}, "only their lengths may differ"),
        ({"x_train": np.where(np.eye(8, 6) > 0, np.float32("nan"), FEATURES), "x_test": FEATURES[:4]}, "example 0 has NaN"),
        ({"x_train": FEATURES, "x_test": np.where(np.eye(4, 6, -3) > 0, np.float32("inf"), FEATURES[:4])}, "x_test .* example 3"),
        ({"y_train": np.array([object()] * 8)}, "cannot be read as an .npz file of plain arrays"),
    ],
)
def test_anything_else_is_refused_with_the_array_and_the_reason(changed: dict[str, Any], message: str, context: DataContext) -> None:
    file = context.suite_dir / "own.npz"
    np.savez(file, **arrays(**changed))
    with pytest.raises(DataError, match=message) as caught:
        check_available(OWN, context)
    assert str(file) in str(caught.value)


def test_a_missing_file_is_named_and_what_the_path_is_relative_to(context: DataContext) -> None:
    with pytest.raises(DataError, match="relative to the directory of the suite file") as caught:
        check_available(OWN, context)
    assert str(context.suite_dir / "own.npz") in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 broken"])
def test_a_file_that_is_no_archive_is_refused(content: bytes, context: DataContext) -> None:
    (context.suite_dir / "own.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"is no \.npz file"):
        load(OWN, context)


def test_a_single_array_is_no_archive(context: DataContext) -> None:
    with (context.suite_dir / "own.npz").open("wb") as file:
        np.save(file, FEATURES)
    with pytest.raises(DataError, match=r"is no \.npz file"):
        load(OWN, context)


def test_a_damaged_archive_is_refused(context: DataContext) -> None:
    file = context.suite_dir / "own.npz"
    np.savez(file, **arrays())
    content = bytearray(file.read_bytes())
    content[200:300] = bytes(100)
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as an \.npz file"):
        load(OWN, context)


def test_an_absolute_path_and_a_suite_without_directory_work(context: DataContext, monkeypatch: pytest.MonkeyPatch) -> None:
    file = context.suite_dir / "own.npz"
    np.savez(file, **arrays())
    assert len(load(Component(name="npz", options={"path": str(file)}), context).labels) == 12
    monkeypatch.chdir(context.suite_dir)
    assert len(load(OWN, replace(context, suite_dir=None)).labels) == 12


def test_a_changed_file_is_read_again(context: DataContext) -> None:
    file = context.suite_dir / "own.npz"
    np.savez(file, **arrays())
    before = load(OWN, context)
    assert load(OWN, context) is before
    np.savez(file, **arrays(x_train=np.zeros((8, 5, 4, 3), np.uint8)))
    assert not load(OWN, context).images[:8].any()


def test_the_same_content_elsewhere_is_decoded_once(context: DataContext, monkeypatch: pytest.MonkeyPatch) -> None:
    file = context.suite_dir / "own.npz"
    np.savez(file, **arrays())
    load(OWN, context)
    Path(context.suite_dir / "copy.npz").write_bytes(file.read_bytes())
    cache.forget()
    monkeypatch.setattr("gapbench.workloads.datasets.npz.read_npz", lambda path: pytest.fail(f"{path} was decoded again"))
    load(Component(name="npz", options={"path": "copy.npz"}), context)


def test_a_file_that_is_not_the_one_planned_with_is_refused(context: DataContext) -> None:
    file = context.suite_dir / "own.npz"
    own = arrays()
    np.savez(file, **own)
    planned = npz_facts(file)
    component = Component(name="npz", options={"path": "own.npz", "content": planned.content})
    np.savez_compressed(file, **own)  # the same arrays in another file
    pool = load(component, context)
    assert (pool.official_train, pool.images.shape[1:], pool.classes) == (planned.train_examples, planned.shape, planned.classes)
    np.savez(file, **{**own, "x_train": own["x_train"][::-1]})
    with pytest.raises(DataError, match="holds other arrays than those that the run was planned with"):
        check_available(component, context)
