"""The curve in a holder's own data sheet: T = c0 + c1 x + c2 x^2 + c3 x^3 with x = R / R0 - 1, T in degC.

A board evaluates it without a host (`[records.Teds]` in firmware/messages.toml). Four coefficients of 32 bits are all
it has room for; a certificate's curve is brought into this form, and how far that is off is part of the answer.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import polynomial

from ..curve import Curve
from ..errors import TedsError
from ..functions import Polynomial

POINTS = 257
"""Places at which the two are compared."""


def holder_curve(
    nominal: float, coefficients: tuple[float, float, float, float], low: float, high: float
) -> Polynomial:
    """The sheet's curve, Ohm to degC, valid where it gives `low` to `high` degC. Raises `TedsError`.

    nominal: R0, Ohm.
    """
    if not nominal > 0.0 or not low < high:
        raise TedsError("a holder's data sheet needs a nominal resistance above 0 Ohm and a range of temperatures")
    # c(x) with x = R / R0 - 1, multiplied out
    terms, power = np.zeros(4), np.ones(1)
    for c in coefficients:
        terms[: power.size] += c * power
        power = polynomial.polymul(power, np.array([-1.0, 1.0 / nominal]))
    ends = [_reached(coefficients, at) for at in (low, high)]
    if None in ends:
        raise TedsError(f"the data sheet's coefficients do not reach from {low:g} to {high:g} degC")
    first, last = sorted(nominal * (1.0 + float(x)) for x in ends if x is not None)
    return Polynomial(terms, valid=(first, last), unit_in="Ohm", unit_out="degC", name="the holder's data sheet")


def coefficients_for(
    curve: Curve, nominal: float, low: float, high: float
) -> tuple[tuple[float, float, float, float], float]:
    """c0 to c3 for a resistor's curve (degC to Ohm) between `low` and `high` degC, and the greatest error, K.

    Least squares at places that are denser towards the ends, so that the error is nearly alike everywhere.
    """
    if curve.unit_in != "degC" or curve.unit_out != "Ohm":
        raise TedsError(f"a holder's thermometer takes degC to Ohm, and this curve takes {curve.unit_in} to "
                        f"{curve.unit_out}")  # fmt: skip
    places = 0.5 * (low + high) - 0.5 * (high - low) * np.cos(np.linspace(0.0, np.pi, POINTS))
    x = curve(places).value / nominal - 1.0
    found = np.asarray(polynomial.polyfit(x, places, 3)).astype(np.float32).astype(np.float64)  # as it is stored
    worst = float(np.abs(polynomial.polyval(x, found) - places).max())
    return (float(found[0]), float(found[1]), float(found[2]), float(found[3])), worst


def _reached(coefficients: tuple[float, float, float, float], at: float) -> float | None:
    """The x nearest to 0 at which the polynomial gives `at`."""
    shifted = np.array([coefficients[0] - at, *coefficients[1:]])
    roots = polynomial.polyroots(np.trim_zeros(shifted, "b"))
    real = roots[np.abs(roots.imag) < 1e-9].real
    real = real[real > -1.0]
    return float(real[np.argmin(np.abs(real))]) if real.size else None
