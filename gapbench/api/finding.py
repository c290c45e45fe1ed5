"""What `gapbench doctor` says of one thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "note", "bad"]
    """`note`: works, with something to know; `bad`: gapbench cannot train so."""
    text: str
    remedy: str = ""
    """How to mend it."""
