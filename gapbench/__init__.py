"""gapbench: a benchmark suite for the large-batch generalization gap.

    from gapbench import api          # the notebook's view: load_suite, plan, run, load_results, report, ...

    @gapbench.model(name="tiny")      # a plugin: also dataset, optimizer, regime, probe
    def tiny(input_shape, classes, *, width: int = 32): ...

`import gapbench` is quick: torch and pandas are imported only when something trains or is tabulated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapbench.core.late import late_imports

if TYPE_CHECKING:
    from gapbench.catalog.plugins import dataset as dataset, model as model, optimizer as optimizer, probe as probe, regime as regime

__version__ = "0.1.0"
__getattr__, __all__ = late_imports(__name__, __file__)
