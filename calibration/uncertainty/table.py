"""An uncertainty budget as a table, after EA-4/02 M:2022, section 6, and a result rounded as one states it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10

from ..curve import Float64


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One component of one quantity, all arrays of the result's shape; None where there is nothing to say."""

    quantity: str
    component: str
    unit: str
    value: Float64
    uncertainty: Float64 | None
    distribution: str
    """With the type of its evaluation: ``normal A``."""
    dof: Float64 | None
    sensitivity: Float64
    contribution: Float64 | None
    """Sensitivity times uncertainty, with its sign, in the result's unit."""
    share: Float64 | None
    """Of the variance; all together are 1. Correlations can make one negative."""


TITLES = ("quantity", "value", "component", "std. unc.", "distribution", "dof", "sensitivity", "contribution", "share")
LEFT = (0, 2, 4)
"""Columns of words; the others are numbers and stand to the right."""


def budget_table(lines: Sequence[Line], sums: Sequence[str], index: tuple[int, ...]) -> str:
    """Rows of a quantity follow each other; its name and value stand in the first."""
    rows = [TITLES]
    before = ""
    for line in lines:
        first = line.quantity != before
        before = line.quantity
        value = f"{float(line.value[index]):.7g} {line.unit}".strip()
        rows.append((
            line.quantity if first else "", value if first else "", line.component, _number(line.uncertainty, index),
            line.distribution, _number(line.dof, index), _number(line.sensitivity, index),
            _number(line.contribution, index), "" if line.share is None else f"{float(line.share[index]):.1%}",
        ))  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(TITLES))]
    text = [
        "  ".join(
            cell.ljust(w) if i in LEFT else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    text.insert(1, "-" * len(text[0]))
    return "\n".join([*(line.rstrip() for line in text), text[1], *sums])


def stated(value: float, half_width: float) -> tuple[str, str]:
    """Value and uncertainty as texts: the latter with two significant digits, the former to its place (GUM 7.2.6)."""
    if not isfinite(half_width) or half_width <= 0.0:
        return f"{value:.10g}", f"{half_width:.2g}"
    place = floor(log10(half_width)) - 1
    place = floor(log10(round(half_width, -place))) - 1  # 0.0996 becomes 0.10
    if place < -12 or place > 6:
        return f"{value:.10g}", f"{half_width:.2g}"
    digits = max(-place, 0)
    return f"{round(value, -place):.{digits}f}", f"{round(half_width, -place):.{digits}f}"


def _number(values: Float64 | None, index: tuple[int, ...]) -> str:
    if values is None:
        return ""
    value = float(values[index])
    return "" if value != value else ("inf" if not isfinite(value) else f"{value:.3g}")
