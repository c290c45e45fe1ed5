"""A pool that stays on the disk gives the batches of one that lies on the device, bit by bit, and trains the same network."""

import threading

import numpy as np
import pytest
import torch

from gapbench.core.events import Finished
from gapbench.engine import feed as feed_module
from gapbench.engine import storage, train
from gapbench.engine.feed import Feed
from gapbench.engine.trainer import Trainer
from gapbench.sizing.decisions import BLOCK_BYTES, RESIDENT_SHARE, block_size
from gapbench.suite.runspec import Component, Normalization, Phase
from gapbench.workloads.datasets.arrays import Pool, Split
from tests.engine.runs import advance

CPU = torch.device("cpu")
RESNET8 = Component(name="resnet", options={"depth": 8})


def mapped(pool: Pool, folder) -> Pool:
    """The same pool, read-only from the disk, as a large one is."""
    np.save(folder / "images.npy", pool.images)
    images = np.asarray(np.load(folder / "images.npy", mmap_mode="r"))
    return Pool(images, pool.labels, pool.classes, pool.pixel_max, pool.official_train)


def random_pool(height=9, width=7, channels=3, count=60) -> Pool:
    images = np.random.default_rng(0).integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    return Pool(images, np.arange(count, dtype=np.int64) % 4, 4, 255.0, 40)


def split_of(pool: Pool, first: int = 0) -> Split:
    train_part = np.arange(first, 40)
    return Split(train_part, np.arange(40, len(pool.labels)), np.array([], dtype=np.int64), train_part[:10])


def both(pool, specs, folder, splits=None):
    splits = splits or [split_of(pool)] * len(specs)
    return Feed(pool, splits, specs, CPU, resident=True), Feed(mapped(pool, folder), splits, specs, CPU, resident=False)


def assert_equal(batch, other):
    assert torch.equal(batch.images, other.images)
    assert batch.images.stride() == other.images.stride()
    assert torch.equal(batch.labels, other.labels)
    assert torch.equal(batch.keys, other.keys)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"flip": True},
        {"crop_padding": 3, "crop_fill": 127, "flip": True},
        {"crop_padding": 12, "crop_fill": 9},  # more than the image has
        {"crop_size": 5, "flip": True},
        {"crop_size": 6, "crop_scale": 0.1, "flip": True},
        {"crop_size": 7, "normalization": Normalization(kind="channel")},
        {"tail": "drop", "batch_size": 12, "train_examples": 40},
        {"tail": "ragged", "batch_size": 12, "train_examples": 40},
        {"batch_size": 5, "phases": (Phase(), Phase(start=0.5, batch_size_factor=3.0)), "unramped_updates": 60, "updates": 40},
    ],
    ids=str,
)
def test_batches_are_the_same_wherever_the_pool_lies(spec, changes, tmp_path):
    resident, streamed = both(random_pool(), [spec(**({"updates": 40} | changes))], tmp_path)
    assert resident.input_shape == streamed.input_shape
    for update in (0, 1, 2, 3, 30, 7, 39):
        assert_equal(resident.batch(update), streamed.batch(update))
    chosen = torch.arange(40, 60)[None]
    assert_equal(resident.evaluation_batch(chosen), streamed.evaluation_batch(chosen))
    assert_equal(resident.calibration_batch(chosen), streamed.calibration_batch(chosen))
    chunks = torch.split(chosen, 6, dim=1)
    for one, other in zip(resident.evaluation_batches(chunks), streamed.evaluation_batches(chunks), strict=True):
        assert_equal(one, other)


def test_replicas_and_micro_batches_are_the_same_too(spec, tmp_path):
    pool = random_pool()
    specs = [spec(seed=seed, updates=50, crop_padding=2, flip=True) for seed in range(3)]
    resident, streamed = both(pool, specs, tmp_path, [split_of(pool, first) for first in (0, 0, 0)])
    for update in range(50):
        for one, other in zip(resident.micro_batches(update, 5), streamed.micro_batches(update, 5), strict=True):
            assert_equal(one, other)


def test_features_are_the_same_too(spec, tmp_path):
    features = np.random.default_rng(0).normal(size=(60, 7)).astype(np.float32)
    pool = Pool(features, np.arange(60, dtype=np.int64) % 4, 4, 1.0, 40)
    resident, streamed = both(pool, [spec(normalization=Normalization(kind="feature"))], tmp_path)
    for update in range(30):
        assert_equal(resident.batch(update), streamed.batch(update))


@pytest.mark.parametrize("threads", [1, 8])
def test_large_blocks_are_gathered_by_several_threads(spec, threads, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "FEW_BYTES", 0 if threads > 1 else 1 << 40)
    resident, streamed = both(random_pool(), [spec(crop_size=4)], tmp_path)
    assert_equal(resident.batch(3), streamed.batch(3))


def test_the_next_block_is_gathered_in_the_background_while_this_one_is_used(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(feed_module, "block_size", lambda piece, _: piece)  # an update a block
    _, streamed = both(random_pool(), [spec()], tmp_path)
    at_once = []
    plain = streamed._gathered

    def drawn(*asked):
        at_once.append(threading.current_thread() is threading.main_thread())
        return plain(*asked)

    monkeypatch.setattr(streamed, "_gathered", drawn)
    for update in range(5):
        streamed.batch(update)
    assert at_once[0]
    assert not any(at_once[1:])
    streamed.batch(20)  # out of turn
    assert at_once.count(True) == 2


def test_what_goes_wrong_in_the_background_is_raised_where_it_is_needed():
    ahead = storage.Ahead()
    ahead.prepare("a", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ahead.take("a", lambda: 2)
    assert ahead.take("a", lambda: 2) == 2


@pytest.mark.parametrize("changes", [{"crop_size": 8, "flip": True}, {"ghost_batch_size": 5, "crop_padding": 1}])
def test_training_from_the_disk_gives_the_same_weights(spec, pool, split, changes, tmp_path, monkeypatch):
    data = pool(height=10, channels=3)
    weights = []
    for fits in (True, False):
        monkeypatch.setattr(feed_module, "fits", lambda *_, answer=fits: answer)
        source = data if fits else mapped(data, tmp_path)
        trainer = Trainer([spec(model=RESNET8, updates=6, **changes)], source, [split(data)], device=CPU, emit=lambda _: None)
        advance(6, trainer)
        evaluation = trainer.evaluate()
        weights.append((trainer.network.weights.clone(), evaluation.values))
    assert torch.equal(weights[0][0], weights[1][0])
    assert weights[0][1] == weights[1][1]


def test_a_stack_trains_from_the_disk(spec, pool, split, tmp_path, monkeypatch):
    data = pool()
    ends = []
    for fits in (True, False):
        monkeypatch.setattr(feed_module, "fits", lambda *_, answer=fits: answer)
        specs = [spec(seed=seed) for seed in range(3)]
        found = []
        train(specs, data, [split(data)] * 3, device="cpu", emit=found.append, stop=lambda: None)
        ends.append([event.summary["test_loss"] for event in found if isinstance(event, Finished)])
    assert ends[0] == ends[1]


def test_a_pool_lies_on_the_device_where_it_takes_its_share_of_the_free_memory_at_most(spec, monkeypatch, capsys):
    pool = random_pool()
    whole, padded = pool.images.nbytes, 60 * 13 * 11 * 3
    for needed, changes in ((whole, {}), (whole, {"crop_size": 3}), (padded, {"crop_padding": 2})):
        window = storage.window_of(pool, spec(**changes))
        monkeypatch.setattr(storage, "free_memory_mib", lambda needed=needed: needed / RESIDENT_SHARE / 2**20)
        assert storage.fits(pool, window, CPU)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(storage, "free_memory_mib", lambda needed=needed: (needed - 1) / RESIDENT_SHARE / 2**20)
        assert not storage.fits(pool, window, CPU)
        assert "stay on the disk and are fetched while cpu trains" in capsys.readouterr().err


def test_blocks_of_large_images_are_bounded_in_bytes():
    assert block_size(16, 32 * 32 * 3) == 2048
    assert block_size(3000, 32 * 32 * 3) == 3000
    images = 224 * 224 * 3
    assert block_size(64, images) * images * 4 <= BLOCK_BYTES
    assert block_size(64, images) % 64 == 0
    assert block_size(4096, images) == 4096
