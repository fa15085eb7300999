"""How a clock's rate went, smoothly, by the straight lines of many windows.

The level is left out on purpose. Delays shift it, and differently when the path changes; the rate hardly knows.
Derivations: `docs/explanation/clocks.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bounds import above
from .windows import DOUBT, Window

Float64 = NDArray[np.float64]

LEAST = 1e-12
"""No rate is known better."""
ENOUGH = 32
"""Exchanges on either side of a change of the path; of fewer the smallest round trip tells too little."""
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


@dataclass(frozen=True, slots=True)
class Rates:
    """What is known of the rate at the middles of windows, one after the other."""

    windows: list[Window]
    rate: Float64
    doubt: Float64
    wander: float
    """1/ns: so fast the rate may change."""
    surprise: float
    """By how much the rate changed from one window to the next beyond what a free oscillator's may and what doubt
    explains: a clock that was set or disciplined (NTP) may do so again at any moment."""
    steady: bool
    """The path's smallest delays did not change, as far as round trips show."""
    shape: Shape


def rates_of(windows: list[Window], wander: float, usual: float, surprise: float, steady: bool) -> Rates:
    """`wander`: taken for the change of rates, or more if they change faster; `usual`: of a free oscillator;
    `surprise` and `steady`: of earlier windows."""
    middle = np.array([w.middle for w in windows])
    own = np.maximum([w.doubt for w in windows], _unsteady(windows))
    rate, doubt, wander = _smoothed(middle, np.array([w.margin.slope for w in windows]), own, wander)
    jumps = np.abs(np.diff(rate)) - 2 * (doubt[1:] + doubt[:-1]) - usual * np.diff(middle)
    steady = steady and _same_path(windows)
    surprise = max(surprise, float(jumps.max(initial=0.0)))
    return Rates(windows, rate, doubt, wander, surprise, steady, Shape(middle, rate))


def _changes(windows: list[Window]) -> Float64:
    """By how much the smallest round trip changed from each window to the next, less what chance may do, ns."""
    trip, noise = np.array([w.trip for w in windows]), np.array([w.noise for w in windows])
    return np.asarray(np.abs(np.diff(trip)) - DOUBT * np.hypot(noise[1:], noise[:-1]))


def _same_path(windows: list[Window]) -> bool:
    """Wherever the exchanges are parted, the smallest round trips before and after are the same but for chance."""
    quick, later = _quickest(windows), _quickest(windows[::-1])[::-1]
    for (trip, noise, count), (other, its_noise, its_count) in zip(quick[:-1], later[1:], strict=True):
        if min(count, its_count) >= ENOUGH and abs(trip - other) > DOUBT * np.hypot(noise, its_noise):
            return False
    return True


def _quickest(windows: list[Window]) -> list[tuple[float, float, int]]:
    """Of each window and those before it: the smallest round trip, its noise, and how many exchanges they have."""
    found: list[tuple[float, float, int]] = []
    trip, noise, count = np.inf, 0.0, 0
    for w in windows:
        count += w.j - w.i
        if w.trip < trip:
            trip, noise = w.trip, w.noise
        found.append((trip, noise, count))
    return found


def _unsteady(windows: list[Window]) -> Float64:
    """How fast the smallest round trip changed on both sides of each window, beyond chance: as a rate. If it is one way
    that slowly gets slower, the line between the two moves along, as if the clock's rate were another. (A change of
    the path is on one side only.)"""
    fast = np.maximum(_changes(windows), 0.0) / np.maximum(np.diff([w.middle for w in windows]), 1.0)
    return np.asarray(np.minimum(np.append(fast, 0.0), np.append(0.0, fast)))


def _smoothed(middle: Float64, slope: Float64, own: Float64, wander: float) -> tuple[Float64, Float64, float]:
    """Rates, their doubt, and how fast rates change (1/ns), `wander` or more; of slopes with doubts of their own.

    Least squares of (r[k] - slope[k])/own[k] and of (r[k+1] - r[k])/(wander * distance): a tridiagonal system.
    Four times over, windows that disagree with their surroundings lose weight (Cauchy's weights): a change of the
    path within a short window looks like a rate, and only its neighbours tell. If most windows disagree it is the
    oscillator that changes faster.
    """
    own = np.maximum(own, LEAST)
    if slope.size < 2:
        return slope, own, wander
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
    """The minimum of sum weight (r - slope)^2 + sum link (r[k+1] - r[k])^2, and the square roots of its variances.

    Springs in a row: `weight` holds each rate to its slope, `link` to the next rate. Whatever is before k pulls like
    one spring, the link and the rest in series. That takes sums of positive numbers only: elimination loses all its
    digits where links are 16 orders stiffer than weights, as between windows close together that know little.
    """
    forth, drawn_forth = _pulled(weight.tolist(), link.tolist(), slope.tolist())
    back, drawn_back = _pulled(weight[::-1].tolist(), link[::-1].tolist(), slope[::-1].tolist())
    # What draws on k from before and from after, each with where it draws to; then k's own weight.
    pull = np.array(forth) + np.array(back[::-1]) + weight
    rate = (np.array(drawn_forth) + np.array(drawn_back[::-1]) + weight * slope) / pull
    return rate, 1.0 / np.sqrt(pull)


def _pulled(weight: list[float], link: list[float], slope: list[float]) -> tuple[list[float], list[float]]:
    """Of each place, the stiffness of all that is before it, and that times where it draws to."""
    stiff, drawn = [0.0], [0.0]
    for w, tie, at in zip(weight[:-1], link, slope[:-1], strict=True):
        whole = stiff[-1] + w
        series = tie * whole / (tie + whole)
        drawn.append(series * (drawn[-1] + w * at) / whole)
        stiff.append(series)
    return stiff, drawn
