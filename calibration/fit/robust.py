"""Fits that outliers can't pull: points far off are weighed less, again and again until the weights stand.

P. J. Huber, Robust Statistics (1981), 7.6 to 7.8; J. W. Tukey's biweight after P. W. Holland and R. E. Welsch,
Commun. Statist. A6 (1977) 813. They forgive a few wrong y. Against a wrong point far out in x, which draws the curve
to itself before it can be told to be wrong, neither helps.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..curve import Float64
from ..errors import FitError
from .errors_in_both import Adjusted, Errors, adjust
from .forms import Ends, Form

Robust = Literal["huber", "tukey"]
HUBER = 1.345
"""In standard deviations; each of both tunings costs 5 % of precision if there are no outliers (Holland and Welsch)."""
TUKEY = 4.685
MEDIAN_KNOWS = 0.7
"""Part of the degrees of freedom that is left where a median has to find the scale: n - p of them make intervals for
95 % that hold 92 % with six points, this part makes 95 % (`bench/coverage.py`)."""
LEAST = {"huber": 1.0068, "tukey": 0.9602}
"""Factor on the covariance of the weighed points if their errors are normal and of the size that was stated: the mean
weight, over the efficiency of 0.9535 or 0.9532."""
MAD = 0.6744897501960817
"""Median absolute value of a standard normal variable."""
ROUNDING = 1e-14
"""Scatter that is but rounding, as part of y: points that lie on the curve exactly are no outliers of each other."""
ROUNDS = 100
SETTLE = 20
"""Rounds in which the scale is found anew; a median can go to and fro between two points for ever."""
SMALL = 1e-7
"""Change of every weight that ends the rounds."""


def adjust_robustly(
    form: Form, x: Float64, y: Float64, errors: Errors, domain: Ends, how: Robust, scale: float | None
) -> tuple[Adjusted, Float64, float, float]:
    """The fit, its points' weights 0..1, the scale of the residuals, and the factor on the unscaled covariance.

    scale: 1 where the uncertainties of the points are known, which the coefficients' then are never below, little as
    the points may scatter; None: from the median absolute residual.
    """
    weights, spread = np.ones(x.shape), scale or 0.0
    for kind in ("huber", "tukey") if how == "tukey" else ("huber",):
        for i in range(ROUNDS):
            found = adjust(form, x, y, errors, domain, weights)
            unit = found.white.vector(found.misfit)
            if scale is None and kind == "huber" and i < SETTLE:
                spread = max(_spread(unit, form.size), ROUNDING * float(np.max(np.abs(found.white.vector(y)))))
            new = _weights(unit / spread, kind)
            change = float(np.max(np.abs(new - weights)))
            weights = new
            if np.count_nonzero(weights) <= form.size:
                raise FitError(
                    f"nearly all points are outliers of a {form.label}; is it the right form, are their u right?"
                )
            if change < SMALL:
                break
    z = unit / spread
    psi, rate = z * weights, _rate(z, how)
    n, p, mean = z.size, form.size, float(np.mean(rate))
    if mean <= 0.0:
        raise FitError(f"nearly all points are outliers of a {form.label}; is it the right form, are their u right?")
    kappa = 1.0 + p / n * float(np.var(rate)) / mean**2
    factor = kappa**2 * spread**2 * float(np.sum(psi**2)) / (n - p) / mean**2  # Huber's first, on that of all points
    factor *= float(np.mean(weights))  # on that of the weighed ones, which `found` has
    return found, weights, spread, factor if scale is None else max(factor, LEAST[how] * scale**2)


def _spread(unit: Float64, p: int) -> float:
    """Of the median of the largest n - p + 1 absolute residuals, for p of them can be made 0 by the fit."""
    return float(np.median(np.sort(np.abs(unit))[max(p - 1, 0) :])) / MAD


def _weights(z: Float64, kind: str) -> Float64:
    far = np.abs(z)
    if kind == "huber":
        return np.asarray(HUBER / np.maximum(far, HUBER))
    return np.asarray(np.where(far < TUKEY, np.square(1.0 - np.square(np.minimum(far, TUKEY) / TUKEY)), 0.0))


def _rate(z: Float64, kind: str) -> Float64:
    """d psi / dz."""
    if kind == "huber":
        return np.asarray((np.abs(z) <= HUBER) * 1.0)
    t = np.square(np.minimum(np.abs(z), TUKEY) / TUKEY)
    return np.asarray((1.0 - t) * (1.0 - 5.0 * t))
