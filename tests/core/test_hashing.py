"""The counter hash: the same bits from numpy, torch and Python, uniform, and a permutation without ties."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gapbench.core.hashing import MASK32, Stream, below, content_hash, derive_seed, mix32, permutation, sort_keys, stream

words = st.integers(0, MASK32)
GOLDEN = (2162385533, "3f57c985dae29f8d")
"""The first word, and a digest of eight."""


@given(st.lists(words, min_size=1, max_size=20))
def test_numpy_torch_and_python_mix_alike(values):
    expected = [mix32(value) for value in values]
    assert mix32(np.array(values, dtype=np.int64)).tolist() == expected
    assert mix32(torch.tensor(values)).tolist() == expected
    assert all(0 <= value <= MASK32 for value in expected)


@given(seed=st.integers(0, 2**31), counter=st.integers(0, 10**6), index=words)
def test_a_stream_is_the_same_function_everywhere(seed, counter, index):
    key = stream(seed, "order")
    expected = key.at(counter, index)
    assert key.at(counter, np.array([index], dtype=np.int64)).tolist() == [expected]
    assert key.at(torch.tensor([counter]), torch.tensor([index])).tolist() == [expected]


def test_the_words_are_frozen():
    # Changing the hash changes every run: the ids' golden file would not notice, this does.
    keys = [stream(seed, purpose).at(counter, 5) for seed in (0, 1) for purpose in ("order", "crop") for counter in (0, 7)]
    digest = hashlib.sha256(np.array(keys, dtype=np.int64).tobytes()).hexdigest()[:16]
    assert (keys[0], digest) == GOLDEN


@pytest.mark.parametrize("purpose", ["order", "crop", "flip", "dropout", "split"])
def test_words_are_uniform_and_unrelated_between_counters(purpose):
    index = np.arange(20_000)
    first, second = (stream(3, purpose).at(epoch, index) for epoch in (0, 1))
    assert stats.kstest(first / 2**32, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.03
    bits = (first[:, None] >> np.arange(32)) & 1
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.02


def test_every_input_bit_flips_half_of_the_output_bits():
    values = np.random.default_rng(0).integers(0, 2**32, 4000)
    for bit in range(32):
        flipped = mix32(values) ^ mix32(values ^ (1 << bit))
        assert abs((((flipped[:, None] >> np.arange(32)) & 1).mean()) - 0.5) < 0.01


@given(st.integers(1, 5000))
def test_below_covers_its_range(bound):
    ends = below(np.array([0, MASK32], dtype=np.int64), bound)
    assert ends.tolist() == [0, bound - 1]


def test_sort_keys_order_by_word_then_index_as_python_does():
    found = np.array([5, 0, MASK32, 5, 2**31], dtype=np.int64)
    index = np.arange(5)
    expected = sorted(range(5), key=lambda i: (found[i], i))
    assert np.argsort(sort_keys(found, index)).tolist() == expected
    assert torch.argsort(sort_keys(torch.tensor(found), torch.arange(5))).tolist() == expected


@given(st.integers(0, 1000), st.integers(1, 300))
def test_a_permutation_is_one(seed, size):
    order = permutation(stream(seed, "split"), 0, np.arange(size))
    assert sorted(order.tolist()) == list(range(size))


def test_purposes_and_seeds_have_streams_of_their_own():
    keys = {stream(seed, purpose) for seed in range(50) for purpose in ("order", "crop", "flip")}
    assert len(keys) == 150
    assert all(isinstance(key, Stream) for key in keys)
    assert derive_seed(0, "initial weights") != derive_seed(1, "initial weights")
    assert 0 <= derive_seed(0, "x") < 2**63


def test_content_hash_depends_on_values_type_and_shape():
    array = np.arange(6)
    variants = [array, array + 1, array.astype(np.float32), array.reshape(2, 3)]
    assert len({content_hash(variant) for variant in variants}) == 4
    assert content_hash(array) == content_hash(array.copy())
