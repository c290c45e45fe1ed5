"""Which test examples a run got right at the end, unpacked from the bits of `runs.parquet`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gapbench.core.errors import GapbenchError


def unpack_correct(bits: bytes, test_examples: int) -> npt.NDArray[np.bool_]:
    """Returns one flag per test example, in the order of the test set.

    Args:
        bits: column `test_correct`, as numpy.packbits wrote it.
        test_examples: size of the test set (the last byte is padded).

    Raises:
        GapbenchError: the bits are not those of a test set of this size.
    """
    if len(bits) != -(-test_examples // 8):
        raise GapbenchError(f"test_correct holds {len(bits)} bytes, not the bits of {test_examples} test examples; is it another test set?")
    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=test_examples).astype(np.bool_)
