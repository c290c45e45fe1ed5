"""The counter hash: every random draw of a run as a pure function of (seed, purpose, counter, index).

The functions use only operators that numpy arrays, torch tensors and Python integers share, on 64-bit signed integers
that hold 32-bit words, so that one definition serves every device and gives the same bits on all of them. The mixing
function is "lowbias32" of Chris Wellons' hash prospector (2018): two multiplications, exact avalanche bias 0.17.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MASK32 = 0xFFFFFFFF

Words: TypeAlias = Any
"""An int64 numpy array, an int64 torch tensor or a Python int."""


def mix32(words: Words) -> Words:
    """Mixes 32-bit words: a bijection on [0, 2^32) in which every input bit flips about half of the output bits.

    Products may wrap around 64 bits; only their low 32 bits are kept, and those are right all the same.
    """
    words = words ^ (words >> 16)
    words = (words * 0x7FEB352D) & MASK32
    words = words ^ (words >> 15)
    words = (words * 0x846CA68B) & MASK32
    return words ^ (words >> 16)


@dataclass(frozen=True)
class Stream:
    """One random stream: the 64-bit key of a (seed, purpose), as two 32-bit words."""

    key_low: int
    key_high: int

    def at(self, counter: Words, index: Words) -> Words:
        """Returns 32-bit words, uniform on [0, 2^32), one for each (counter, index) after broadcasting.

        Args:
            counter: epoch or update number(s), >= 0.
            index: example number(s) or positions, >= 0 and < 2^32.
        """
        return mix32(mix32(index ^ self.key_low) ^ mix32((counter * 0x9E3779B1 + self.key_high) & MASK32))


def stream(seed: int, purpose: str) -> Stream:
    """Returns the stream of a seed and a purpose.

    Purposes in use: order, sampling, crop, flip, dropout, noise, extrapolation, perturbation, split, subset, holdout.
    """
    word = _digest(seed, purpose)
    return Stream(word & MASK32, word >> 32)


def derive_seed(seed: int, purpose: str) -> int:
    """Returns a 63-bit seed for a library's own generator (initial weights), independent between purposes."""
    return _digest(seed, purpose) >> 1


def below(words: Words, bound: Words) -> Words:
    """Maps 32-bit words to integers in [0, bound), bound < 2^31 (one, or one for each word), with a bias below bound / 2^32."""
    return (words * bound) >> 32


def sort_keys(words: Words, index: Words) -> Words:
    """Returns int64 keys whose sorting order is the random order of `index`: word << 32 | index, signed, without ties."""
    return (words - 0x80000000) * 0x100000000 + index


def permutation(stream: Stream, counter: int, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns `index` in the random order of (stream, counter)."""
    import numpy as np

    keys: npt.NDArray[np.int64] = sort_keys(stream.at(counter, index), index)
    return np.sort(keys) & MASK32


def content_hash(*arrays: npt.NDArray[Any]) -> str:
    """Returns 16 hexadecimal digits that depend on the values, types and shapes of the arrays: the identity of own data."""
    import numpy as np  # a third of the time that planning takes to import, and seldom needed there

    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)  # no copy: it may be a mapped file
    return digest.hexdigest()


def _digest(seed: int, purpose: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{purpose}:{seed}".encode(), digest_size=8).digest(), "little")
