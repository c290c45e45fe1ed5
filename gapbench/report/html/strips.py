"""Dot strips of the arms table: every seed a dot, mean and interval, one common axis for all rows of a panel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from gapbench.analysis import ArmRow, t_interval
from gapbench.analysis.cells import in_unit
from gapbench.analysis.formats import signed
from gapbench.report.accuracy import sample_names
from gapbench.report.drawing import arm_series
from gapbench.report.html.figure import variable
from gapbench.report.scales import is_share, mean_text, number_text, value_text

WIDTH, HEIGHT, MARGIN = 300, 34, 12
"""Of a strip, in its own units; the margin keeps dots and labels of the ends inside."""

INTERVAL_SHARE = 0.6
"""Intervals may widen the axis by this share of the span of the dots; what reaches farther ends in an arrow."""

_TICKS = (1, 2, 5)


@dataclass(frozen=True)
class Strips:
    """The strips of one panel, as SVG."""

    axis: str
    by_cell: dict[str, str]
    """By name of the cell; empty text where nothing is measured."""
    color: dict[str, str]
    """CSS value of a cell's colour in figures, by name."""


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    ticks: tuple[float, ...]
    digits: int

    def place(self, value: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)


def strips_of(rows: Sequence[ArmRow]) -> Strips:
    """Returns the strips of a panel's rows."""
    axis = _axis(rows)
    reference = next((row for row in rows if row.cell.reference and row.headline), None)
    mean = None if reference is None or reference.headline is None else reference.metric.shown(reference.headline.mean)
    line = None if mean is None else axis.place(mean)
    arms = [row.cell for row in rows if row.cell.arm]
    color = {row.cell.name: "var(--ink)" for row in rows}
    color |= {one.cell.name: variable(str(one.style.color)) for one in arm_series(arms)}
    strips = {row.cell.name: _strip(row, axis, line, color[row.cell.name]) for row in rows}
    return Strips(_axis_svg(axis), strips, color)


def _values(row: ArmRow) -> list[float]:
    """Returns what the dots of a row stand for, in the unit shown: accuracies in percent, or losses in nats."""
    return [*in_unit(row.cell, row.metric).values()]


def _axis(rows: Sequence[ArmRow]) -> _Axis:
    values = [value for row in rows for value in _values(row)]
    if not values:
        return _Axis(0.0, 100.0, (0.0, 50.0, 100.0), 0)
    low, high = min(values), max(values)
    metric = rows[0].metric
    narrowest = 0.2 if is_share(metric) else max(1e-6, 1e-3 * abs(high))
    least = 0.0 if low >= 0 else -math.inf  # the loss of a density may be below zero
    most = metric.shown(1.0) if is_share(metric) else math.inf
    reach = INTERVAL_SHARE * max(high - low, narrowest)
    ends = [metric.shown(end) for row in rows if row.headline for end in (row.headline.low, row.headline.high) if end is not None]
    low = max(low - reach, min([low, *ends]), least)
    high = min(high + reach, max([high, *ends]), most)
    if high - low < narrowest:
        low, high = max(least, low - narrowest / 2), min(most, high + narrowest / 2)
    step = _step((high - low) / 4)
    ticks = [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return _Axis(low, high, tuple(ticks), max(0, -math.floor(math.log10(step))))


def _step(rough: float) -> float:
    """Returns the round number (1, 2 or 5 times a power of ten) at or above a rough step."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next((factor * power for factor in _TICKS if factor * power >= rough * (1 - 1e-9)), 10 * power)


def _axis_svg(axis: _Axis) -> str:
    labels = "".join(f'<text x="{axis.place(tick):.1f}" y="12">{signed(tick, axis.digits)}</text>' for tick in axis.ticks)
    return f'<svg class="strip axis" viewBox="0 0 {WIDTH} 16" aria-hidden="true">{labels}</svg>'


def _strip(row: ArmRow, axis: _Axis, reference: float | None, color: str) -> str:
    values = _values(row)
    estimate = t_interval(values)
    if estimate is None:
        return ""
    metric, middle = row.metric, HEIGHT / 2
    parts = [f'<path class="grid" d="{"".join(f"M{axis.place(tick):.1f} 0V{HEIGHT}" for tick in axis.ticks)}"/>']
    if reference is not None:
        parts.append(f'<path class="reference" d="M{reference:.1f} 0V{HEIGHT}"/>')
    if estimate.low is not None and estimate.high is not None:
        parts.append(_interval(axis, estimate.low, estimate.high, middle + 6))
    parts.append(f'<path class="mean" d="M{axis.place(estimate.mean):.1f} {middle + 1:g}v10"/>')
    seen: dict[int, int] = {}
    for name, value in zip(sample_names(row.cell), values, strict=True):
        x = axis.place(value)
        level = seen.get(round(x / 3), 0)
        seen[round(x / 3)] = level + 1
        parts.append(
            f'<circle cx="{x:.1f}" cy="{middle - 4 - 3.2 * level:.1f}" r="3.4">'
            f"<title>{escape(name)}: {value_text(metric, value)}</title></circle>"
        )
    text = f"{row.cell.name}: {mean_text(metric, estimate)}; {', '.join(number_text(metric, value) for value in sorted(values))}"
    head = f'<svg class="strip" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(text)}" style="--own: {color}">'
    return head + "".join(parts) + "</svg>"


def _interval(axis: _Axis, low: float, high: float, y: float) -> str:
    start, end = axis.place(low), axis.place(high)
    parts = [f'<path class="interval" d="M{start:.1f} {y:g}H{end:.1f}"/>']
    if low < axis.low:
        parts.append(f'<path class="interval" d="M{start + 4:.1f} {y - 3:g}l-4 3l4 3"/>')
    if high > axis.high:
        parts.append(f'<path class="interval" d="M{end - 4:.1f} {y - 3:g}l4 3l-4 3"/>')
    return "".join(parts)
