"""What takes minutes says how far it is: a line on stderr now and then, none where it is done within seconds."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

SILENT_SECONDS = 3.0
"""Work that is done sooner says nothing."""
BETWEEN_SECONDS = 15.0
"""Between two lines."""


@dataclass
class Progress:
    """Counts pieces of work and says how many are done, and about how long the others will take."""

    doing: str
    """Such as `imagefolder: decoding`."""
    total: int
    unit: str
    """What is counted, in the plural."""
    done: int = 0
    """Pieces that were done before: they say nothing about the speed."""
    _began: float = field(default_factory=time.monotonic)
    _said: float | None = None
    _before: int = field(init=False)

    def __post_init__(self) -> None:
        self._before = self.done

    def add(self, pieces: int) -> None:
        """Counts pieces, and says so where it is time to."""
        self.done += pieces
        now = time.monotonic()
        if now - self._began < SILENT_SECONDS or (self._said is not None and now - self._said < BETWEEN_SECONDS):
            return
        self._said = now
        left = (now - self._began) / max(1, self.done - self._before) * (self.total - self.done)
        say(f"{self.doing} {self.done:,} of {self.total:,} {self.unit}, about {_duration(left)} left")

    def end(self) -> None:
        """Says that all is done, where anything was said before."""
        if self._said is not None:
            say(f"{self.doing} {self.total:,} {self.unit} took {_duration(time.monotonic() - self._began)}")


def say(text: str) -> None:
    """Writes a line to stderr."""
    print(text, file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
