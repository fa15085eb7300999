"""Quantiles and tails of the distributions that uncertainties need: Student's t, normal, chi-square.

M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions (1964), is cited as AS with the formula's number.
"""

from __future__ import annotations

from functools import lru_cache
from math import lgamma
from statistics import NormalDist

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike

from ..curve import Float64, doubles
from ..errors import CalibrationError

TERMS = 500
"""Of a series or continued fraction; they end long before when they have converged."""
ENOUGH = 3e-15
"""Relative change below which they have."""
TINY = 1e-300
MANY = 100
"""Different degrees of freedom from which on k is interpolated, to seven digits."""
SERIES = 40
NORMAL = 1e7
"""Degrees of freedom from which on t is the normal distribution with the first term of its expansion."""


def student(level: float, dof: ArrayLike = np.inf) -> Float64:
    """Coverage factor k: a Student's t variable lies between -k and k with probability `level` (GUM G.3, table G.2).

    dof: degrees of freedom, > 0, any shape; they need not be whole; infinite ones give the normal distribution's k.
    Raises `CalibrationError` for a level that is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise CalibrationError(f"a level of confidence lies between 0 and 1, {level!r} does not")
    dof = doubles(dof)
    if np.any(dof <= 0.0):
        raise CalibrationError("degrees of freedom must be greater than 0; one reading alone has none")
    z = NormalDist().inv_cdf(0.5 * (1.0 + level))
    out = np.where(np.isnan(dof), np.nan, z)
    out = np.where(np.isfinite(dof), z + (z**3 + z) / (4.0 * np.where(np.isfinite(dof), dof, 1.0)), out)
    low = dof < NORMAL
    if low.any():
        few, inverse = np.unique(dof[low], return_inverse=True)
        out[low] = (_student(level, few) if few.size < MANY else _students(level, few))[inverse.reshape(-1)]
    return np.asarray(out)


def _students(level: float, dof: Float64) -> Float64:
    """Of many: ln k is a smooth function of 1 / dof from 0 to 1, and so a Chebyshev series of a few coefficients."""
    out = np.empty(dof.shape)
    small = dof < 1.0
    if small.any():
        out[small] = _student(level, dof[small])
    out[~small] = np.exp(chebyshev.chebval(2.0 / dof[~small] - 1.0, _series(level)))
    return out


@lru_cache(maxsize=16)
def _series(level: float) -> Float64:
    nodes = 0.5 * (1.0 + np.cos(np.pi * (np.arange(SERIES) + 0.5) / SERIES))
    return np.asarray(chebyshev.chebfit(2.0 * nodes - 1.0, np.log(_student(level, 1.0 / nodes)), SERIES - 1))


def _student(level: float, dof: Float64) -> Float64:
    """Newton's steps in ln(t^2 / dof) towards ln P(|T| > t) = ln(1 - level), which is nearly straight, in a bracket."""
    low, high = np.full(dof.shape, -80.0), np.full(dof.shape, 700.0)
    z = NormalDist().inv_cdf(0.5 * (1.0 + level))
    rise = (z**3 + z) / (4.0 * dof) + (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / (96.0 * dof**2)  # AS 26.7.5
    at = np.log(np.maximum(np.square(z + np.where(dof > 2.0, rise, 0.0)), TINY) / dof)
    scale = np.exp(_gammaln(0.5 * (dof + 1.0)) - _gammaln(0.5 * dof)) / np.sqrt(np.pi)
    for _ in range(200):
        square = np.exp(at)
        tail = beta_tail(1.0 / (1.0 + square), 1.0 / (1.0 + 1.0 / square), 0.5 * dof, np.full(dof.shape, 0.5))
        above = tail > 1.0 - level
        low, high = np.where(above, at, low), np.where(above, high, at)
        fall = scale * np.sqrt(square) * np.exp(-0.5 * (dof + 1.0) * np.log1p(square))  # -dP/d ln(t^2 / dof)
        with np.errstate(all="ignore"):
            step = at + np.log(tail / (1.0 - level)) * tail / fall
        new = np.where((step > low) & (step < high), step, 0.5 * (low + high))
        done = np.all(np.abs(new - at) <= 1e-13 * (1.0 + np.abs(at)))
        at = new
        if done:
            break
    return np.asarray(np.sqrt(dof) * np.exp(0.5 * at))


def student_tail(t: ArrayLike, dof: ArrayLike) -> Float64:
    """Probability that Student's t lies further from 0 than t, on either side."""
    t, dof = np.broadcast_arrays(doubles(t), doubles(dof))
    square = np.maximum(t**2, TINY)
    return beta_tail(dof / (dof + square), square / (dof + square), 0.5 * dof, np.full(dof.shape, 0.5))


def beta_tail(x: Float64, rest: Float64, a: Float64, b: Float64) -> Float64:
    """Regularised incomplete beta function I_x(a, b); rest = 1 - x, given for its digits (AS 26.5.8, 26.5.2)."""
    swap = x > (a + 1.0) / (a + b + 2.0)
    x, rest = np.where(swap, rest, x), np.where(swap, x, rest)
    a, b = np.where(swap, b, a), np.where(swap, a, b)
    front = np.exp(
        a * np.log(np.maximum(x, TINY)) + b * np.log(np.maximum(rest, TINY)) - _gammaln(a) - _gammaln(b)
        + _gammaln(a + b)
    )  # fmt: skip
    c, d = np.ones(x.shape), 1.0 / _away(1.0 - (a + b) * x / (a + 1.0))
    fraction = d.copy()
    for m in range(1, TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for part in (even, odd):  # the modified method of Lentz
            d = 1.0 / _away(1.0 + part * d)
            c = _away(1.0 + part / c)
            fraction = fraction * c * d
        if np.all(np.abs(c * d - 1.0) < ENOUGH):
            break
    found = front * fraction / a
    return np.asarray(np.where(swap, 1.0 - found, found))


def chi_square_tail(chi_square: ArrayLike, dof: ArrayLike) -> Float64:
    """Probability that chi-square with `dof` degrees of freedom is greater (AS 26.4.19; series 6.5.29, 6.5.31)."""
    x, a = np.broadcast_arrays(0.5 * doubles(chi_square), 0.5 * doubles(dof))
    if np.any(x < 0.0) or np.any(a <= 0.0):
        raise CalibrationError("chi-square can't be negative, and its degrees of freedom must be greater than 0")
    terms = TERMS + int(10.0 * np.sqrt(a.max(initial=0.0)))  # near x = a so many count
    safe = np.maximum(x, TINY)
    front = np.exp(a * np.log(safe) - safe - _gammaln(a))
    term = 1.0 / a
    total = term.copy()
    for n in range(1, terms):
        term = term * x / (a + n)
        total = total + term
        if np.all((term <= ENOUGH * total) | (x >= a + 1.0)):
            break
    b = x + 1.0 - a
    d = 1.0 / _away(b)
    c, fraction = np.full(x.shape, 1.0 / TINY), d.copy()
    for n in range(1, terms):
        part, b = -n * (n - a), b + 2.0
        d = 1.0 / _away(b + part * d)
        c = _away(b + part / c)
        fraction = fraction * c * d
        if np.all((np.abs(c * d - 1.0) < ENOUGH) | (x < a + 1.0)):
            break
    return np.asarray(np.where(x < a + 1.0, 1.0 - front * total, front * fraction))


def _away(x: Float64) -> Float64:
    """The same, kept from 0, through which Lentz's method would divide."""
    return np.where(np.abs(x) < TINY, TINY, x)


def _gammaln(x: Float64) -> Float64:
    return np.asarray(np.vectorize(lgamma, otypes=[np.float64])(x))
