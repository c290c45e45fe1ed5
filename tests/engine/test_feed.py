"""The feed against slow definitions: orders, crops, flips, normalization."""

import numpy as np
import pytest
import torch

from gapbench.core.errors import TrainingError
from gapbench.core.hashing import below, mix32, permutation, stream
from gapbench.engine import feed as feed_module
from gapbench.engine.feed import Feed
from gapbench.suite.runspec import Normalization
from gapbench.workloads.datasets.arrays import Pool, Split

CPU = torch.device("cpu")
PLAIN = Normalization(kind="none")


def numbered_pool(count: int = 40, side: int = 5, channels: int = 3) -> Pool:
    """Images whose pixels are all different within an image, so that a crop can be recognized."""
    generator = np.random.default_rng(1)
    images = generator.integers(1, 256, (count + 10, side, side, channels)).astype(np.uint8)
    return Pool(images, np.arange(count + 10, dtype=np.int64) % 4, 4, 255.0, count)


def split_of(pool: Pool) -> Split:
    train = np.arange(pool.official_train)
    return Split(train, np.arange(pool.official_train, len(pool.labels)), np.array([], dtype=np.int64), train[:10])


def feed_of(spec, pool=None, **changes) -> Feed:
    pool = pool or numbered_pool()
    specs = [spec(normalization=PLAIN, **changes)]
    return Feed(pool, [split_of(pool)], specs, CPU)


def test_each_epoch_is_a_permutation_and_batches_stream_across_epochs(spec):
    feed = feed_of(spec, batch_size=12, updates=20)
    indices, epochs = feed.examples(0, 240)
    for epoch in range(6):
        assert sorted(indices[0, epochs[0] == epoch].tolist()) == list(range(40))
    expected = np.concatenate([permutation(stream(0, "order"), epoch, np.arange(40)) for epoch in range(6)])
    assert indices[0].tolist() == expected[:240].tolist()


def test_the_stream_of_examples_is_the_same_at_every_batch_size(spec):
    small = feed_of(spec, batch_size=4, updates=60).examples(0, 240)[0]
    large = feed_of(spec, batch_size=24, updates=10).examples(0, 240)[0]
    assert torch.equal(small, large)


def _examples_of_updates(feed, updates):
    parts = [feed.examples(batch.first, batch.first + batch.size) for batch in map(feed.batches.at, range(updates))]
    return tuple(torch.cat(tensors, dim=1) for tensors in zip(*parts, strict=True))


def test_tail_drop_leaves_out_the_rest_of_each_epochs_order(spec):
    feed = feed_of(spec, batch_size=12, updates=6, tail="drop", train_examples=40)
    indices, epochs = _examples_of_updates(feed, 6)
    for epoch in range(2):
        expected = permutation(stream(0, "order"), epoch, np.arange(40))[:36]
        assert indices[0, epochs[0] == epoch].tolist() == expected.tolist()


def test_crops_and_flips_are_those_of_each_images_own_hash(spec):
    pool = numbered_pool()
    feed = feed_of(spec, pool, batch_size=20, updates=30, crop_padding=2, crop_fill=7, flip=True)
    for update in (0, 3, 17):
        indices, epochs = feed.examples(20 * update, 20 * (update + 1))
        batch = feed.batch(update)
        for position, (index, epoch) in enumerate(zip(indices[0].tolist(), epochs[0].tolist(), strict=True)):
            word = stream(0, "crop").at(epoch, index)
            top, left = below(word, 5), below(mix32(word ^ 0x5BD1E995), 5)
            image = np.pad(pool.images[index], ((2, 2), (2, 2), (0, 0)), constant_values=7)[top : top + 5, left : left + 5]
            if stream(0, "flip").at(epoch, index) & 1:
                image = image[:, ::-1]
            np.testing.assert_allclose(batch.images[0, position].permute(1, 2, 0).numpy(), image / 255, rtol=1e-6)
            assert batch.labels[0, position] == pool.labels[index]


def test_crops_and_flips_differ_from_image_to_image_within_a_batch(spec):
    # One image 40 times: without augmentation of its own every copy in a batch would look alike.
    image = numbered_pool(1).images[:1]
    pool = Pool(np.repeat(image, 50, axis=0), np.zeros(50, dtype=np.int64), 2, 255.0, 40)
    images = feed_of(spec, pool, batch_size=40, updates=1, crop_padding=2, flip=True).batch(0).images[0]
    assert len({picture.numpy().tobytes() for picture in images}) > 20


def test_augmentation_of_an_example_is_the_same_at_every_batch_size_and_new_in_every_epoch(spec):
    options = {"crop_padding": 2, "flip": True}
    small, large = feed_of(spec, batch_size=4, updates=60, **options), feed_of(spec, batch_size=24, updates=10, **options)
    assert torch.equal(
        torch.cat([small.batch(update).images for update in range(60)], dim=1),
        torch.cat([large.batch(update).images for update in range(10)], dim=1),
    )
    whole = feed_of(spec, batch_size=40, updates=2, **options)
    first = whole.batch(0).images[0, whole.examples(0, 40)[0][0].argsort()]
    second = whole.batch(1).images[0, whole.examples(40, 80)[0][0].argsort()]
    assert (first != second).flatten(1).any(dim=1).float().mean() > 0.9


def test_any_update_can_be_asked_for_at_any_time(spec):
    feed, fresh = (feed_of(spec, batch_size=12, updates=4000, crop_padding=1) for _ in range(2))
    visited = [feed.batch(update).images.clone() for update in (0, 1, 3999, 700)]
    for update, images in zip((700, 3999, 1, 0), reversed(visited), strict=True):
        assert torch.equal(fresh.batch(update).images, images)


@pytest.mark.parametrize("image", [True, False])
def test_a_block_that_stays_bytes_gives_the_same_bits_however_often_it_is_asked(spec, monkeypatch, image):
    pool = (
        numbered_pool() if image else Pool(np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32), np.arange(50) % 4, 4, 1.0, 40)
    )
    options = {"crop_padding": 1, "flip": True} if image else {}
    specs = [spec(seed=seed, batch_size=12, updates=9, normalization=Normalization(kind="global"), **options) for seed in range(2)]
    early, late = (Feed(pool, [split_of(pool)] * 2, specs, CPU) for _ in range(2))
    early_batches = [early.batch(update) for update in range(9)]
    assert early._block[2].images.is_floating_point()
    monkeypatch.setattr(feed_module, "LARGE_BLOCK", 0)
    for _ in range(2):
        for update, expected in enumerate(early_batches):
            batch = late.batch(update)
            assert torch.equal(batch.images, expected.images)
            assert torch.equal(batch.labels, expected.labels)
            assert torch.equal(batch.keys, expected.keys)
    assert late._block[2].images.is_floating_point() is not image
    pieces = [piece.images for piece in late.micro_batches(3, 5)]
    assert torch.equal(torch.cat(pieces, dim=1), early_batches[3].images)


def test_replicas_draw_their_own_orders_as_they_would_alone(spec):
    pool = numbered_pool()
    specs = [spec(seed=seed, normalization=PLAIN, crop_padding=1, flip=True) for seed in range(3)]
    together = Feed(pool, [split_of(pool)] * 3, specs, CPU).batch(5)
    for replica, alone in enumerate(specs):
        batch = Feed(pool, [split_of(pool)], [alone], CPU).batch(5)
        assert torch.equal(together.images[replica], batch.images[0])
        assert torch.equal(together.labels[replica], batch.labels[0])
        assert torch.equal(together.keys[replica], batch.keys[0])


@pytest.mark.parametrize("kind", ["global", "channel", "fixed"])
def test_normalization_is_that_of_the_training_set(spec, kind):
    pool = numbered_pool()
    normalization = Normalization(kind=kind, **({"mean": (0.5,), "standard_deviation": (0.25,)} if kind == "fixed" else {}))
    feed = Feed(pool, [split_of(pool)], [spec(normalization=normalization, batch_size=40, updates=1)], CPU)
    train = pool.images[:40].astype(np.float64) / 255
    over = (0, 1, 2) if kind == "channel" else None
    mean, deviation = (0.5, 0.25) if kind == "fixed" else (train.mean(axis=over), train.std(axis=over))
    images = feed.evaluation_batch(torch.arange(40)[None]).images[0].permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(images, (train - mean) / deviation, rtol=1e-4, atol=1e-5)


def test_evaluation_takes_the_middle_and_flips_nothing(spec):
    pool = numbered_pool()
    feed = feed_of(spec, pool, crop_padding=2, flip=True)
    images = feed.evaluation_batch(torch.arange(40, 50)[None]).images[0].permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(images, pool.images[40:50] / 255, rtol=1e-6)


def test_calibration_examples_are_augmented_as_in_training_and_always_alike(spec):
    pool = numbered_pool()
    feeds = [feed_of(spec, pool, batch_size=batch, updates=10, crop_padding=2, flip=True) for batch in (4, 20)]
    chosen = torch.arange(40)[None]
    first, second = (feed.calibration_batch(chosen).images for feed in feeds)
    assert torch.equal(first, second)
    plain = feeds[0].evaluation_batch(chosen).images
    assert (first != plain).flatten(2).any(dim=2).float().mean() > 0.9
    unaugmented = feed_of(spec, pool)
    assert torch.equal(unaugmented.calibration_batch(chosen).images, unaugmented.evaluation_batch(chosen).images)


def test_features_that_are_no_images_pass_as_they_are(spec):
    features = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    pool = Pool(features, np.zeros(50, dtype=np.int64), 2, 1.0, 40)
    feed = feed_of(spec, pool, batch_size=10, updates=8)
    assert feed.input_shape == (7,)
    indices, _ = feed.examples(30, 40)
    np.testing.assert_array_equal(feed.batch(3).images[0].numpy(), features[indices[0]])


def test_constant_images_and_wrong_channels_are_errors(spec):
    blank = Pool(np.full((50, 5, 5, 3), 9, dtype=np.uint8), np.zeros(50, dtype=np.int64), 2, 255.0, 40)
    with pytest.raises(TrainingError, match="do not vary"):
        Feed(blank, [split_of(blank)], [spec()], CPU)
    wrong = Normalization(kind="fixed", mean=(0.1, 0.2), standard_deviation=(0.1, 0.2))
    with pytest.raises(TrainingError, match="1 or 3 means"):
        Feed(numbered_pool(), [split_of(numbered_pool())], [spec(normalization=wrong)], CPU)


def test_features_are_normalized_each_by_itself(spec):
    generator = np.random.default_rng(0)
    features = (generator.random((30, 3)) * (1, 1000, 0) + (0, 5, 7)).astype(np.float32)
    pool = Pool(features, np.arange(30) % 2, 2, 1.0, 20)
    train = features[:20].astype(np.float64)
    feed = Feed(pool, [split_of(pool)], [spec(normalization=Normalization(kind="feature"), batch_size=20, updates=1)], CPU)
    expected = (train - train.mean(axis=0)) / np.array([*train.std(axis=0)[:2], 1.0])  # the third never varies: only shifted
    found = feed.evaluation_batch(torch.arange(20)[None]).images[0]
    assert np.allclose(found.numpy(), expected, atol=1e-4)


def test_crops_of_larger_images_are_those_of_each_images_own_hash(spec):
    pool = numbered_pool(side=9)
    feed = feed_of(spec, pool, batch_size=20, updates=30, crop_size=5, flip=True)
    assert feed.input_shape == (3, 5, 5)
    corners = set()
    for update in (0, 3, 17):
        indices, epochs = feed.examples(20 * update, 20 * (update + 1))
        batch = feed.batch(update)
        for position, (index, epoch) in enumerate(zip(indices[0].tolist(), epochs[0].tolist(), strict=True)):
            word = stream(0, "crop").at(epoch, index)
            top, left = below(word, 5), below(mix32(word ^ 0x5BD1E995), 5)
            corners.add((top, left))
            image = pool.images[index][top : top + 5, left : left + 5]
            if stream(0, "flip").at(epoch, index) & 1:
                image = image[:, ::-1]
            np.testing.assert_allclose(batch.images[0, position].permute(1, 2, 0).numpy(), image / 255, rtol=1e-6)
    assert len(corners) > 15


@pytest.mark.parametrize(("side", "size"), [(9, 5), (9, 4), (8, 5), (6, 5), (11, 4)])
def test_evaluation_of_larger_images_takes_torchvisions_center_crop(spec, side, size):
    from torchvision.transforms.functional import center_crop

    pool = numbered_pool(side=side)
    images = feed_of(spec, pool, crop_size=size, flip=True).evaluation_batch(torch.arange(40, 50)[None]).images[0]
    expected = center_crop(torch.from_numpy(pool.images[40:50]).permute(0, 3, 1, 2), [size, size])
    np.testing.assert_allclose(images.numpy(), expected.numpy() / 255, rtol=1e-6)
