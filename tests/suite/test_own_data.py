from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapbench.suite import Suite, load_suite

Write = Callable[..., Path]
TEXT = """
[run]
recipe = "digits"
dataset = {{ name = "npz", path = "{path}" }}
batch_size = 8
reference_batch_size = 8
"""


def save(path: Path, *, examples: int = 60, **changes: Any) -> Path:
    arrays: dict[str, Any] = {
        "x_train": np.arange(examples * 12, dtype=np.float32).reshape(examples, 12),
        "y_train": np.arange(examples) % 3,
        "x_test": np.zeros((30, 12), np.float32),
        "y_test": np.arange(30) % 3,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: value for name, value in {**arrays, **changes}.items() if value is not None})
    return path


def load_text(write: Write, path: str = "data.npz", file: str = "suite.toml") -> Suite:
    return load_suite(write(TEXT.format(path=path), file))


def test_sizes_come_from_the_file(write: Write) -> None:
    path = write("")
    save(path.parent / "data.npz")
    (run,) = load_text(write).runs
    assert (run.spec.train_examples, run.spec.updates) == (60, 30 * 60 // 8)
    assert run.spec.split_drawn is False


def test_content_counts_and_not_the_place(write: Write, tmp_path: Path) -> None:
    save(tmp_path / "data.npz")
    save(tmp_path / "elsewhere" / "other.npz")
    one, same = load_text(write).runs[0], load_text(write, "elsewhere/other.npz").runs[0]
    assert one.run_id == same.run_id
    assert one.spec.dataset.option("path") != same.spec.dataset.option("path")
    save(tmp_path / "data.npz", y_test=np.zeros(30, np.int64))
    assert load_text(write).runs[0].run_id != one.run_id


def test_path_is_relative_to_the_file_in_which_it_stands(write: Write, tmp_path: Path) -> None:
    save(tmp_path / "shared" / "data.npz")
    write(TEXT.format(path="data.npz"), "shared/base.toml")
    suite = load_suite(write('extends = "shared/base.toml"\n'))
    assert suite.runs[0].spec.dataset.option("path") == (tmp_path / "shared" / "data.npz").as_posix()


def test_path_in_arms_grid_and_rules_is_found_too(write: Write, tmp_path: Path) -> None:
    save(tmp_path / "data.npz")
    save(tmp_path / "other.npz")
    text = """
    [run]
    recipe = "digits"
    batch_size = 8
    [grid]
    dataset = ["digits", { name = "npz", path = "data.npz" }, { name = "npz", path = "other.npz" }]
    [[arm]]
    label = "A"
    dataset = { name = "npz", path = "data.npz", train_size = 30 }
    [[arm]]
    label = "B"
    dataset = "digits"
    [[exclude]]
    dataset = { path = "other.npz" }
    reason = "the same data"
    [[override]]
    where = { arm = "B" }
    set = { dataset = { name = "npz", path = "data.npz" } }
    """
    suite = load_suite(write(text), settings={"reference_batch_size": "8"})
    own = [run.spec.dataset for run in suite.runs if run.spec.dataset.name == "npz"]
    assert len(own) == 3
    assert {dataset.option("path") for dataset in own} == {(tmp_path / "data.npz").as_posix()}
    assert [run.reason for run in suite.dropped] == ["the same data"]


def test_content_can_be_insisted_on(write: Write, tmp_path: Path) -> None:
    save(tmp_path / "data.npz")
    content = load_text(write).runs[0].spec.dataset.option("content")
    assert load_text(write, f'data.npz", content = "{content}').runs
    with pytest.raises(Exception, match=r"run\.dataset\.content: .*data\.npz holds other data: content [0-9a-f]{16}, not 0123"):
        load_text(write, 'data.npz", content = "0123')


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "has no y_test; it must have x_train, y_train, x_test, y_test"),
        ({"y_train": np.zeros(5, np.int64)}, "y_train must hold one whole number of at least 0 for each of the 60 examples of x_train"),
        ({"y_train": np.zeros(60)}, "y_train must hold one whole number"),
        (
            {"x_test": np.zeros((30, 12))},
            "not float64 [30, 12]; convert it, for example with .astype",
        ),
        ({"x_test": np.zeros((30, 5), np.float32)}, "must be images [n, height, width(, channels)] or features [n, features] of one size"),
        ({"x_train": np.array([{}] * 60)}, "is no .npz file of plain arrays"),
        ({"x_test": np.full((30, 12), np.nan, np.float32)}, "x_test must be finite: example 0 has NaN or infinite features"),
        ({"y_train": np.arange(60) % 3 + 1}, "y_train has 3 different labels, so they must be 0 to 2, but 3 occurs; renumber them"),
        ({"y_test": np.full(30, 3)}, "y_test has the label 3, which y_train does not have (0 to 2)"),
        ({"y_train": np.zeros(60, int), "y_test": np.zeros(30, int)}, "y_train has only one class"),
        (
            {"x_train": np.linspace(0, 1, 60 * 64, dtype=np.float32).reshape(60, 8, 8)},
            'not float32 [60, 8, 8]; it looks like images from 0 to 1, so convert it to bytes: (255 * x).round().astype("uint8")',
        ),
        ({"x_train": np.full((60, 8, 8), 200, np.int32)}, 'images from 0 to 255, so convert it to bytes: x.round().astype("uint8")'),
        ({"x_train": np.full((60, 8, 8, 3), -1.5)}, "images that were normalized; store the bytes that they were made from"),
        ({"x_train": np.zeros((60, 8, 8), bool)}, '(255 * x).astype("uint8")'),
        ({"x_train": np.zeros(60, np.float32)}, ".reshape(len(x), -1)"),
    ],
)
def test_files_of_another_form_are_mistakes(
    mistakes: Callable[..., list[str]], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    save(tmp_path / "data.npz", **changes)
    (found,) = mistakes(TEXT.format(path="data.npz"))
    assert found.startswith("suite.toml:5: run.dataset.path: ")
    assert message in found


@pytest.mark.parametrize(("shape", "first"), [((3, 8, 8), True), ((1, 9, 9), True), ((8, 8, 3), False), ((8, 8), False)])
def test_images_with_channels_first_are_named(write: Write, tmp_path: Path, shape: tuple[int, ...], first: bool) -> None:
    images = {name: np.zeros((count, *shape), np.uint8) for name, count in (("x_train", 60), ("x_test", 30))}
    save(tmp_path / "data.npz", **images)
    warned = [text for text in load_text(write).warnings if "channels" in text]
    assert len(warned) == first
    for text in warned:
        assert f"height {shape[0]}, width {shape[1]}, {shape[2]} channels" in text
        assert "x.transpose(0, 2, 3, 1)" in text


def test_missing_path_and_missing_file_are_mistakes(mistakes: Callable[..., list[str]], tmp_path: Path) -> None:
    assert mistakes(TEXT.format(path="")) == ['suite.toml:5: run.dataset: dataset "npz" needs the option path']
    (found,) = mistakes(TEXT.format(path="gone.npz"))
    assert found.startswith("suite.toml:5: run.dataset.path: gone.npz cannot be read: No such file")


def test_features_take_neither_crops_nor_convolutions(mistakes: Callable[..., list[str]], tmp_path: Path) -> None:
    save(tmp_path / "data.npz")
    assert (
        mistakes(TEXT.format(path="data.npz") + 'flip = true\nmodel = "resnet"\n')
        == [
            'suite.toml:9: run.model: model "resnet" takes images, and the data set has 12 features; choose another model, such as mlp',
            "suite.toml:8: run.flip: flip is for images, and the data set has 12 features; remove it",
        ][::-1]
    )


def test_features_are_warned_of_one_scale_for_all_and_take_one_each(write: Write, mistakes: Callable[..., list[str]]) -> None:
    path = write("")
    save(path.parent / "data.npz")
    text = TEXT.format(path="data.npz")
    assert any('"feature" scales each by its own mean' in warning for warning in load_suite(write(text)).warnings)
    assert not any('"feature"' in warning for warning in load_suite(write(text + 'normalization = "feature"\n')).warnings)
    (mistake,) = mistakes(text + 'normalization = "channel"\n')
    assert mistake.endswith('normalization "channel" is not for features, which the data set has; choose "feature" or "global"')
    (mistake,) = mistakes('[run]\nrecipe = "digits"\nbatch_size = 8\nnormalization = "feature"\n')
    assert mistake.endswith('normalization "feature" is not for images, which the data set has; choose "channel" or "global"')
