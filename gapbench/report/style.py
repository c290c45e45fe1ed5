"""How figures look: one light style, colours that survive colour blindness and greyscale, files that are the same on every rerun."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from gapbench.report.marks import number_marks

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

INK, MUTED, GRID, SHADE, PAPER = "#222222", "#666666", "#E4E4E4", "#F4F4F4", "#8A8A8A"

OKABE_ITO = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette without its yellow, which is lost on white; black is the reference."""

DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.6, 1.2, 1.6)), (0, (3, 1.2, 1, 1.2, 1, 1.2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")

FONT = "DejaVu Sans"

_RC = {
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "figure.facecolor": "white",
    "font.family": FONT,  # comes with matplotlib, so that text has the same width everywhere
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "savefig.dpi": 160,
    "svg.fonttype": "path",
    "svg.hashsalt": "gapbench",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
}


@dataclass(frozen=True)
class Style:
    """How one series is drawn everywhere: never told by colour alone."""

    color: Any
    dashes: Any
    marker: str
    filled: bool = True

    @property
    def line(self) -> dict[str, Any]:
        """What `Axes.plot` draws a line with markers by; open markers are white, so that lines do not show through."""
        face = self.color if self.filled else "white"
        return {"color": self.color, "linestyle": self.dashes, "marker": self.marker, "markerfacecolor": face}


def arm_style(position: int) -> Style:
    """Returns the style of the n-th arm; the reference is the 0-th and the only black one."""
    colors = OKABE_ITO[1:]
    color = colors[(position - 1) % len(colors)] if position else OKABE_ITO[0]
    dashes = DASHES[(position + max(position - 1, 0) // 30) % len(DASHES)]  # colours and markers come again together after 30
    return Style(color, dashes, MARKERS[position % len(MARKERS)])


def batch_style(position: int, count: int) -> Style:
    """Returns the style of the n-th of `count` batch sizes: from dark to light along viridis, whose lightness is monotone."""
    import matplotlib as mpl

    color = mpl.colormaps["viridis"](0.8 * position / max(1, count - 1))
    return Style(color, DASHES[position % len(DASHES)], MARKERS[position % len(MARKERS)])


def regime_style(regime: int, ghost: int) -> Style:
    """Returns the style of the n-th regime (colour) and m-th ghost setting (dashes, and open markers unless off)."""
    marker = MARKERS[regime % len(MARKERS)]
    return Style(OKABE_ITO[regime % len(OKABE_ITO)], DASHES[ghost % len(DASHES)], marker, filled=ghost == 0)


@contextmanager
def house_style(**changes: Any) -> Iterator[None]:
    """Draws with this style alone, whatever the user's own matplotlib settings are, and leaves those as they were.

    Args:
        changes: settings that replace those of the house.
    """
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast("Any", {**_RC, **changes}))
        yield


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure, inches; legends may stand outside the axes and still have their place."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def literal(text: str) -> str:
    """Returns a text that matplotlib draws as it stands: a dollar begins no formula, an underscore hides no entry of a legend.

    A letter that the figures' font lacks, which would be an empty box like any other, is its code: `[5C0F]`.
    """
    known = "".join(letter if letter.isascii() or _has_glyph(letter) else f"[{ord(letter):04X}]" for letter in text)
    return ("\u200b" if known.startswith("_") else "") + known.replace("$", r"\$")


@functools.cache
def _has_glyph(letter: str) -> bool:
    from matplotlib import font_manager

    return bool(font_manager.get_font(font_manager.findfont(FONT)).get_char_index(ord(letter)))


def say(figure: Figure | SubFigure, text: str) -> None:
    """Puts a sentence where there is nothing to draw."""
    axes = figure.subplots()
    axes.set_axis_off()
    axes.text(0.5, 0.5, literal(text), ha="center", va="center", color=MUTED, transform=axes.transAxes)


def render(figure: Figure, kind: str) -> bytes:
    """Returns the figure as bytes of an "svg" or "png" file, without dates, so that a rerun gives the same bytes."""
    number_marks(figure)
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None, "Creator": "gapbench"} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()
