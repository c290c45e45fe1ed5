"""The suites of the paper's tables: every cell planned, and each of its programs trained for a few updates on files of the real format."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gapbench import catalog, cost
from gapbench.api.running import smoke_suite
from gapbench.catalog import published
from gapbench.core.errors import SuiteError
from gapbench.core.events import Event, Finished, Outcome
from gapbench.engine import train
from gapbench.suite import Suite, load_suite
from gapbench.suite.runspec import RunSpec
from gapbench.workloads.datasets import cifar
from gapbench.workloads.datasets.arrays import DataContext, Pool
from gapbench.workloads.datasets.cache import md5_of_bytes
from gapbench.workloads.datasets.official import OfficialFile
from gapbench.workloads.datasets.splits import split

ARMS = ["SB", "LB", "LB+LR", "LB+LR+GBN", "LB+LR+GBN+RA"]


@pytest.fixture(scope="module")
def table1() -> Suite:
    return load_suite("hoffer2017-table1")


def test_table_1_has_every_cell_of_the_paper_at_its_batch_size(table1: Suite) -> None:
    planned = {(run.labels.recipe, run.labels.arm): run.spec.batch_size for run in table1.runs}
    rows = published.tables("hoffer2017")["table1"].rows
    assert planned == {(row.recipe, arm): row.values[arm].batch_size for row in rows for arm in ARMS}
    assert len(rows) == 6
    assert {run.spec.ghost_batch_size for run in table1.runs} == {None, 128}


def test_every_row_has_its_reference_cell_and_regime_adaptation_as_many_updates(table1: Suite) -> None:
    for recipe in {run.labels.recipe for run in table1.runs}:
        (small,) = {(run.labels.arm, run.spec.updates) for run in table1.runs if run.labels.recipe == recipe and run.labels.reference_cell}
        adapted = {run.spec.updates for run in table1.runs if run.labels.recipe == recipe and run.labels.arm == ARMS[-1]}
        assert small == ("SB", *adapted)


def test_wresnet_scales_its_rate_from_256(table1: Suite) -> None:
    specs = {run.labels.arm: run.spec for run in table1.runs if run.labels.recipe == "hoffer2017/wresnet16-4-cifar100"}
    assert [specs[arm].learning_rate for arm in ARMS] == pytest.approx([0.1, 0.1, 0.4, 0.4, 0.4])
    assert [specs[arm].updates for arm in ARMS] == [39062, 2441, 2441, 2441, 39062]


@pytest.fixture
def tiny_cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """CIFAR-100's files with 32 training and 16 test images, read by its own reader."""
    random = np.random.default_rng(0)
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, examples in (("train", 32), ("test", 16)):
        labels = [int(label) for label in random.integers(0, 100, examples)]
        batch = {
            "filenames": [f"{name}_{i}.png" for i in range(examples)],
            "batch_label": f"{name} batch",
            "fine_labels": labels,
            "coarse_labels": [label // 5 for label in labels],
            "data": random.integers(0, 256, (examples, 3072), dtype=np.uint8),
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=3))
    files = tuple(OfficialFile(file.path, md5_of_bytes((tmp_path / file.path).read_bytes())) for file in cifar.cifar100.files)
    data = replace(cifar.cifar100, files=files)
    return data(DataContext(tmp_path, tmp_path / "cache", offline=True, suite_dir=tmp_path))


def test_the_rows_of_cifar_100_train_in_every_arm(table1: Suite, tiny_cifar100: Pool) -> None:
    small, _ = smoke_suite(table1, "cpu")
    specs = {
        (run.spec.model.name, run.spec.ghost_batch_size is None): run.spec for run in small.runs if run.spec.dataset.name == "cifar100"
    }
    assert set(specs) == {("c3", True), ("c3", False), ("wresnet", True), ("wresnet", False)}
    for spec in specs.values():
        sizes = spec.dataset.model_copy(update={"options": {**spec.dataset.options, "test_size": 16}})
        few = {"dataset": sizes, "train_examples": 32, "batch_size": 8, "ghost_batch_size": spec.ghost_batch_size and 4}
        assert _outcome(spec.model_copy(update=few), tiny_cifar100) is Outcome.OK


def _outcome(spec: RunSpec, pool: Pool) -> Outcome:
    events: list[Event] = []
    train([spec], pool, [split(pool, spec)], device="cpu", emit=events.append, stop=lambda: None)
    (finished,) = [event for event in events if isinstance(event, Finished)]
    return finished.outcome


def test_recipes_of_the_tables_name_models_and_data_sets_of_the_catalog() -> None:
    for name, recipe in catalog.recipes().items():
        model = recipe.fields["model"]
        assert (model if isinstance(model, str) else model["name"]) in catalog.models(), name


@pytest.fixture(scope="module")
def large_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 8,192 training images, links to two: planning counts files and never decodes one."""
    folder = tmp_path_factory.mktemp("imagenet")
    for label in ("n01", "n02"):
        image = folder / f"{label}.JPEG"
        image.write_bytes(label.encode())
        for part, count in (("train", 4096), ("val", 8)):
            (folder / part / label).mkdir(parents=True)
            for number in range(count):
                (folder / part / label / f"{label}_{number}.JPEG").symlink_to(image)
    return folder


def test_table_2_has_every_cell_of_the_paper_at_its_batch_size(large_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPBENCH_CACHE", str(tmp_path))
    suite = load_suite("hoffer2017-table2", settings={"dataset.path": str(large_folder)})
    planned = {(run.labels.arm, run.spec.batch_size): run for run in suite.runs}
    rows = published.tables("hoffer2017")["table2"].rows
    reported = {(arm, row.values[arm].batch_size) for row in rows for arm in ARMS}
    assert reported <= set(planned)
    assert {size for arm, size in planned if arm == "LB+LR+GBN"} == {2048, 4096, 8192}
    assert {run.spec.updates for (arm, _), run in planned.items() if arm in ("SB", ARMS[-1])} == {30 * 8192 // 128}
    estimates = {key: cost.estimate(run.spec) for key, run in planned.items()}
    assert all(found.memory_mib for found in estimates.values())
    flops = {key: cost.training_flops_per_update(run.spec) for key, run in planned.items()}
    assert all(flops.values())
    # At 224 pixels, whatever size the images are stored in: 0.71 billion multiplications of the published network, forward.
    small = flops["SB", 128]
    assert small is not None
    assert small / 6 / 128 == pytest.approx(0.71e9, rel=0.01)
    assert [phase.weight_decay for phase in planned["SB", 128].spec.phases] == [None, None, 0.0, 0.0, 0.0]


def test_table_2_says_where_its_images_should_be() -> None:
    with pytest.raises(SuiteError, match=r"run.dataset.path: .*imagenet/train cannot be read.*train/<class>/ and val/<class>/"):
        load_suite("hoffer2017-table2")
