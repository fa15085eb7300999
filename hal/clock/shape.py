"""How a clock's rate went, smoothly, by the straight lines of many windows.

The level is left out on purpose. Delays shift it, and differently when the path changes; the rate hardly knows.
Derivations: `docs/explanation/clocks.md`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .bounds import above
from .windows import Window

Float64 = NDArray[np.float64]

LEAST = 1e-12
"""No rate is known better."""
AGREE = 0.7
"""Median of |rate - slope| / doubt above which the oscillator is taken to change faster than thought."""


class Shape:
    """theta(x) but for a constant: a rate that is linear between knots, and constant before and after them."""

    __slots__ = ("_level", "_rate", "_x")

    def __init__(self, x: Float64, rate: Float64) -> None:
        self._x, self._rate = x, rate
        step = np.diff(x) * (rate[1:] + rate[:-1]) / 2
        self._level = np.concatenate([[0.0], np.cumsum(step)])

    def __call__(self, x: Float64) -> Float64:
        k, r = self._x, self._rate
        i = np.clip(np.searchsorted(k, x, side="right") - 1, 0, k.size - 1)
        d = x - k[i]
        j = np.minimum(i + 1, k.size - 1)
        bend = np.where((d > 0) & (j > i), (r[j] - r[i]) / np.maximum(k[j] - k[i], 1.0), 0.0)
        return np.asarray(self._level[i] + d * (r[i] + bend * d / 2))

    def rate(self, x: Float64) -> Float64:
        """d theta / dx."""
        return np.interp(x, self._x, self._rate)


def smoothed(windows: list[Window], wander: float) -> tuple[Float64, Float64, float]:
    """Rates at the windows' middles, their doubt, and how fast rates change (1/ns), `wander` or more.

    Least squares of (r[k] - slope[k])/doubt[k] and of (r[k+1] - r[k])/(wander * distance): a tridiagonal system.
    Four times over, windows that disagree with their surroundings lose weight (Cauchy's weights): a change of the
    path within a short window looks like a rate, and only its neighbours tell. If most windows disagree it is the
    oscillator that changes faster.
    """
    slope = np.array([w.margin.slope for w in windows])
    own = np.maximum([w.doubt for w in windows], LEAST)
    if slope.size < 2:
        return slope, own, wander
    middle = np.array([w.middle for w in windows])
    apart, weight = np.maximum(np.diff(middle), 1.0), 1.0 / own**2
    for _ in range(10):
        link = 1.0 / (wander * apart) ** 2
        rate, doubt = _solved(weight, link, slope)
        for _ in range(4):
            rate, doubt = _solved(weight / (1.0 + ((rate - slope) / (3.0 * own)) ** 2), link, slope)
        if float(np.median(np.abs(rate - slope) / own)) <= AGREE:
            break
        wander *= 2.0
    # Windows may all err alike (a path that slowly changes), so many are no better than the best one near by.
    x = wander * middle
    return rate, np.maximum(doubt, above(x, own, x)), wander


def _solved(weight: Float64, link: Float64, slope: Float64) -> tuple[Float64, Float64]:
    """The minimum of sum weight (r - slope)^2 + sum link (r[k+1] - r[k])^2, and the square roots of its variances."""
    n = slope.size
    diagonal = (weight + np.append(link, 0.0) + np.append(0.0, link)).tolist()
    tie, want = link.tolist(), (weight * slope).tolist()
    down, up = diagonal.copy(), diagonal.copy()  # pivots of elimination from above and from below
    for k in range(1, n):
        share = tie[k - 1] / down[k - 1]
        down[k] -= share * tie[k - 1]
        want[k] += share * want[k - 1]
    for k in range(n - 2, -1, -1):
        up[k] -= tie[k] ** 2 / up[k + 1]
    rate = want
    rate[-1] /= down[-1]
    for k in range(n - 2, -1, -1):
        rate[k] = (want[k] + tie[k] * rate[k + 1]) / down[k]
    # A tridiagonal matrix has on its inverse's diagonal 1 / (down + up - diagonal).
    variance = 1.0 / np.maximum(np.array(down) + np.array(up) - np.array(diagonal), 1e-30)
    return np.array(rate), np.sqrt(variance)
