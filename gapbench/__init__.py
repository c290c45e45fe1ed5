"""gapbench: a benchmark suite for the large-batch generalization gap.

`import gapbench` is quick: torch and pandas are imported only when something trains or is tabulated.
"""

from __future__ import annotations

__version__ = "0.1.0"
