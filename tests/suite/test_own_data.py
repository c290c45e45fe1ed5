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
    ],
)
def test_files_of_another_form_are_mistakes(
    mistakes: Callable[..., list[str]], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    save(tmp_path / "data.npz", **changes)
    (found,) = mistakes(TEXT.format(path="data.npz"))
    assert found.startswith("suite.toml:5: run.dataset.path: ")
    assert message in found


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
