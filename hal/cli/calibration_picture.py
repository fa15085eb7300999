"""A picture of a fitted calibration: points, curve, its confidence band, and what is left over. Needs `plot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from calibration.fit import Fit

    from ..recording.points import Axes

PLACES = 400


def picture(fitted: Fit, axes: Axes, path: Path) -> Path:
    """Draw it and return the path. ImportError without matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    x = np.linspace(*fitted.curve.valid, PLACES)
    middle = fitted.curve.values(x)
    low, high = fitted.band(x)
    upper.plot(x, middle, linewidth=0.9, label=fitted.form.label)
    upper.plot(fitted.x, fitted.y, ".", color="black", label=f"{fitted.x.size} points")
    upper.set_ylabel(f"{axes.reference or 'reference'}, {axes.reference_unit}")
    upper.legend(fontsize=8)
    lower.fill_between(x, low - middle, high - middle, alpha=0.3, linewidth=0, label="confidence band, 95 %")
    lower.plot(fitted.x, fitted.residuals, ".", color="black")
    lower.axhline(0.0, linewidth=0.9)
    lower.set_ylabel(f"left over, {axes.reference_unit}")
    lower.set_xlabel(f"{axes.signal}, {axes.unit}")
    lower.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    return path
