"""Standard normal numbers from hashed words: the same draws on every device, in every stack and after a resume."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def normals(words: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Returns one standard normal number (float64) for each 32-bit word: the inverse distribution function, at most 6.3 in size."""
    uniform = (words.to(torch.float64) + 0.5) * 2.0**-31 - 1.0  # on (-1, 1), never its ends
    return torch.erfinv(uniform) * math.sqrt(2.0)
