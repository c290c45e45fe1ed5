"""Files of a user's own: named by what tells them apart, grouped by content; no folder leaves the machine."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from gapbench import api
from gapbench.core.machine import short_names

SUITE = """schema = 1
name = "two"
[run]
model = { name = "mlp", widths = [4] }
optimizer = "sgd"
normalization = "feature"
epochs = 1
reference_batch_size = 8
learning_rate = 0.05
[grid]
dataset = [{ name = "npz", path = "data/a.npz" }, { name = "npz", path = "data/b.npz" }]
batch_size = [8, 32]
seed = "0..1"
"""


def write_data(folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    for name, seed in (("a", 0), ("b", 1)):
        draws = np.random.default_rng(seed)
        parts = {part: draws.normal(size=(count, 3)).astype("float32") for part, count in (("train", 96), ("test", 32))}
        labels = {part: (own[:, 0] > 0).astype("int64") for part, own in parts.items()}
        arrays = {f"{letter}_{part}": own[part] for letter, own in (("x", parts), ("y", labels)) for part in parts}
        np.savez(folder / "data" / f"{name}.npz", **arrays)
    (folder / "two.toml").write_text(SUITE)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The same suite and data in two users' folders, one batch size trained in each."""
    folders = [write_data(tmp_path_factory.mktemp("somebody") / name) for name in ("here", "there")]
    for folder, size in zip(folders, (8, 32), strict=True):
        assert api.run(folder / "two.toml", results=folder / "results", devices="cpu", only=f"batch_size={size}").exit_status == 0
    return [folder / "results" / "two" for folder in folders]


def test_cells_and_panels_are_named_by_the_files_and_two_machines_merge_into_one(trained, tmp_path):
    api.merge([*map(str, trained)], tmp_path / "merged")
    arms = api.report(tmp_path / "merged").arms
    assert [row.cell.name for row in arms.rows] == ["npz a.npz, B 8", "npz a.npz, B 32", "npz b.npz, B 8", "npz b.npz, B 32"]
    assert all(row.cell.complete for row in arms.rows)
    assert [panel.title for panel in arms.panels] == ["npz (a.npz), mlp", "npz (b.npz), mlp"]


def test_no_table_page_or_bundle_says_where_the_files_lie(trained, tmp_path):
    results = trained[0]
    folder = str(results.parent.parent)
    shown = [path for kind in ("tables/*", "figures/*.svg", "report.html") for path in results.glob(kind)]
    assert len(shown) > 5
    assert not [path.name for path in shown if folder in path.read_text(encoding="utf-8")]
    api.export(results, tmp_path / "two.zip")
    with zipfile.ZipFile(tmp_path / "two.zip") as archive:
        assert not [name for name in archive.namelist() if folder.encode() in archive.read(name)]
        (suite,) = [name for name in archive.namelist() if name.endswith("suite.toml")]
        assert '"a.npz"' in archive.read(suite).decode()
    assert [row.cell.name for row in api.report(tmp_path / "two.zip").arms.rows][:1] == ["npz a.npz, B 8"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/x/a.npz", "/x/b.npz"], ["a.npz", "b.npz"]),
        (["/x/a.npz", "/y/a.npz"], ["x/a.npz", "y/a.npz"]),
        (["/x/1/a.npz", "/x/2/a.npz", "/b.npz"], ["1/a.npz", "2/a.npz", "b.npz"]),
        (["a.npz", "x/a.npz"], ["a.npz", "x/a.npz"]),
        ([], []),
    ],
)
def test_names_are_the_shortest_that_tell_files_apart(paths, names):
    assert list(short_names(paths).values()) == names
