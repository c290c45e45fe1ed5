"""The figures of a suite by name, as matplotlib figures: what the report writes, and what notebooks show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from gapbench.analysis.cells import read_panels
from gapbench.analysis.curves import Curves
from gapbench.analysis.equal_loss import families
from gapbench.analysis.factorial import factorials
from gapbench.report.accuracy import accuracy_figure, seeds_figure
from gapbench.report.curves import loss_accuracy_figure, training_curves_figure, weight_distance_figure
from gapbench.report.equal_loss import equal_loss_figure
from gapbench.report.factorial import factorial_figure
from gapbench.report.scales import is_share
from gapbench.report.style import house_style, render
from gapbench.report.tuning import FIGURE, learning_rate_figure
from gapbench.store.tables import Tables
from gapbench.tuning import KEY, read_tuned

if TYPE_CHECKING:
    from matplotlib.figure import Figure


OF_ACCURACY = frozenset({"accuracy_vs_batch_size", "seeds", "accuracy_vs_train_loss"})
"""Figures that say nothing where nothing is classified."""


def drawings(read: Tables) -> dict[str, Callable[[], Figure]]:
    """Returns what draws each figure, by name: those that the suite's [report] asks for, else all that apply.

    Call it in the house's style. Trials of a tuning have one figure of their own.
    """
    if KEY in read.report:
        return {FIGURE: lambda: learning_rate_figure(read_tuned(read.runs, read.report))}
    panels, curves = read_panels(read.runs), Curves(read.curves)
    known: dict[str, Callable[[], Figure]] = {
        "weight_distance": lambda: weight_distance_figure(panels, curves),
        "accuracy_vs_batch_size": lambda: accuracy_figure(panels),
        "training_curves": lambda: training_curves_figure(panels, curves),
        "seeds": lambda: seeds_figure(panels),
        "accuracy_vs_train_loss": lambda: loss_accuracy_figure(panels, curves),
        "accuracy_vs_final_loss": lambda: equal_loss_figure([panel for panel in panels if families(panel)]),
        "factorial": lambda: factorial_figure(panels),
    }
    left_out = set() if factorials(panels) else {"factorial"}
    if not any(map(families, panels)):
        left_out.add("accuracy_vs_final_loss")
    if panels and not any(is_share(panel.metric) for panel in panels):
        left_out |= OF_ACCURACY
    applicable = [name for name in known if name not in left_out]
    return {name: known[name] for name in read.report.get("figures") or applicable}


class Figures(Mapping[str, "Figure"]):
    """Matplotlib figures by name, each drawn when it is first asked for; a notebook shows all of them."""

    def __init__(self, draw: Mapping[str, Callable[[], Figure]]) -> None:
        self._draw = draw
        self._drawn: dict[str, Figure] = {}

    def __getitem__(self, name: str) -> Figure:
        if name not in self._drawn:
            with house_style():
                self._drawn[name] = self._draw[name]()
        return self._drawn[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._draw)

    def __len__(self) -> int:
        return len(self._draw)

    def __repr__(self) -> str:
        return f"Figures({', '.join(self)})"

    def _repr_html_(self) -> str:
        return "".join(_inline_svg(figure) for figure in self.values())


def _inline_svg(figure: Figure) -> str:
    with house_style():
        text = render(figure, "svg").decode()
    return text[text.index("<svg") :]
