"""Files of users are called by their shortest distinguishing name and known by their content; no folder of a machine leaves it."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gapbench import api, store
from gapbench.analysis.cells import read_panels
from gapbench.core.machine import short_names, without_folders
from gapbench.store.plan import file_names, shared_suite
from tests.small import trained

SUITE = """
schema = 1
name = "two"

[run]
model = { name = "mlp", widths = [4] }
optimizer = "sgd"
normalization = "feature"
epochs = 1
reference_batch_size = 8
learning_rate = 0.05

[grid]
dataset = [{ name = "npz", path = "FIRST" }, { name = "npz", path = "b.npz" }]
batch_size = [8, 16]

[report]
reference = { batch_size = 8, dataset = { name = "npz", path = "FIRST" } }
"""


def machine(folder: Path, first: str) -> Path:
    """Results of the suite as trained in a folder of its own, where the first file has this name."""
    folder.mkdir()
    for number, name in enumerate((first, "b.npz")):
        generator = np.random.default_rng(number)
        x, y = generator.normal(size=(48, 4)).astype("f4"), np.arange(48) % 3
        (folder / name).parent.mkdir(exist_ok=True)
        np.savez(folder / name, x_train=x[:32], y_train=y[:32], x_test=x[32:], y_test=y[32:])
    return trained(folder, SUITE.replace("FIRST", first))


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("machines")
    return machine(folder / "one", "a.npz"), machine(folder / "two", "other/alpha.npz")


def published(folder: Path) -> list[str]:
    """Texts of all that a reader elsewhere may get, tables as JSON."""
    texts = []
    for path in folder.rglob("*"):
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
            texts.append(frame.to_json(default_handler=str))
            texts.append(path.read_bytes().decode(errors="replace"))  # metadata stand there as they are
        elif path.is_file() and path.suffix != ".png":
            texts.append(path.read_text())
    return [text.replace("\\/", "/") for text in texts]


def test_cells_and_panels_have_the_names_of_files(machines):
    runs = api.load_results(machines[0]).runs
    assert set(runs["cell"]) == {f"npz {name}.npz, B {size}" for name in "ab" for size in (8, 16)}
    assert [panel.title for panel in read_panels(runs)] == ["npz a.npz, mlp", "npz b.npz, mlp"]


def test_the_same_files_elsewhere_and_under_another_name_are_the_same_cells(machines, tmp_path):
    merged = api.merge(machines, tmp_path / "both")
    runs = api.load_results(merged.path).runs
    assert set(runs["cell"]) == {f"npz {name}.npz, B {size}" for name in "ab" for size in (8, 16)}
    assert len(read_panels(runs)) == 2
    assert merged.identical == len(runs) == 4


def test_no_folder_of_the_machine_is_in_a_bundle_a_table_or_a_page(machines, tmp_path):
    api.export(machines[0], tmp_path / "b.zip", csv=tmp_path / "csv", latex=tmp_path / "t.tex")
    with zipfile.ZipFile(tmp_path / "b.zip") as packed:
        packed.extractall(tmp_path / "unpacked")
    texts = published(tmp_path / "unpacked") + published(tmp_path / "csv") + [(tmp_path / "t.tex").read_text()]
    assert len(texts) > 8
    assert any("a.npz" in text for text in texts)
    for text in texts:
        assert str(machines[0].parents[1]) not in text
    assert {panel.title for panel in read_panels(api.load_results(tmp_path / "b.zip").runs)} == {"npz a.npz, mlp", "npz b.npz, mlp"}


def test_a_plan_of_an_earlier_version_is_read_with_names(machines, tmp_path):
    old = shutil.copytree(machines[0], tmp_path / "old")
    plan = store.read_plan(old / "plan.parquet")
    place = str(machines[0].parents[1] / "a.npz")
    assert plan.runs[0].spec.dataset.option("path") == place  # here it says where the data lie
    long = [run.model_copy(update={"labels": run.labels.model_copy(update={"cell": f"npz path {place}, B 8"})}) for run in plan.runs[:1]]
    store.ResultsDirectory.open_existing(old).write_plan(store.StoredPlan("two", tuple(long)), "")
    assert store.read_plan(old / "plan.parquet").runs[0].labels.cell == "npz path a.npz, B 8"


def test_names_are_as_long_as_tells_them_apart():
    assert short_names(["/x/a.npz", "/x/b.npz"]) == {"/x/a.npz": "a.npz", "/x/b.npz": "b.npz"}
    assert short_names(["/x/one/a.npz", "C:/y/two/a.npz", "/a.npz"]) == {
        "/x/one/a.npz": "one/a.npz",
        "C:/y/two/a.npz": "two/a.npz",
        "/a.npz": "a.npz",
    }
    same = [
        {"path": "/x/a.npz", "content": "1" * 16},
        {"path": "/y/alpha.npz", "content": "1" * 16},
        {"path": "/x/a.npz", "content": "2" * 16},
    ]
    assert [*file_names(same).values()] == ["a.npz (11111111)", "a.npz (11111111)", "a.npz (22222222)"]


def test_messages_and_suites_lose_their_folders():
    assert without_folders("/home/me/data/a.npz cannot be read: see https://x.org/y (train.py:3)") == (
        "a.npz cannot be read: see https://x.org/y (train.py:3)"
    )
    assert without_folders(r"C:\Users\me\a.npz is gone; 3/4 and either/or stay, as does ./x/y") == (
        "a.npz is gone; 3/4 and either/or stay, as does ./x/y"
    )
    text = 'run = {dataset = {name = "npz", path = "/home/mé/a.npz"}}\n'
    assert shared_suite(text, None) == 'run = {dataset = {name = "npz", path = "a.npz"}}\n'
    assert shared_suite("broken =", None) == "broken ="
