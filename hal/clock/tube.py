"""One span of a clock: the band that exchanges leave open, and where in it the truth most likely is.

    lower(x) <= theta(x) <= upper(x),    theta = lab time - nominal device time x

Causality gives the limits, one pair per exchange; the datasheet's ppm carries them to other moments (hard). How far
the true rate may be from the fitted one carries them further (tight). Derivations: `docs/explanation/clocks.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .band import Band
from .bounds import above, below
from .shape import Rates, rates_of
from .table import Table
from .windows import Limits, Window, Windows

Float64 = NDArray[np.float64]

WANDER = 8e-18
"""1/ns: so fast may the rate of a 100 ppm crystal change (8 ppb/s, a board that warms up); of poorer oscillators in
proportion to their datasheet's ppm."""
QUARTER = 0.25
"""Of a window's length: the band's middle is averaged over so much on either side."""
INNER = 0.25
"""The estimate stays within this share of the band about its middle."""
NODES = 1024
STRING = 256
"""Nodes between which the height is drawn straight."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What older exchanges still say at one x: hard and tight limits of theta, ns."""

    x: float
    hard_low: float
    hard_up: float
    low: float
    up: float
    window: Window
    """The last one before x, with the rate found for it and its doubt."""
    surprise: float
    steady: bool
    """See `Rates`."""


@dataclass(frozen=True, slots=True)
class Tube:
    """The result."""

    table: Table
    rates: Rates
    found: Windows
    steps: list[tuple[float, float]]
    """Between which x the clock seems to have been set: then exchanges before and after want tubes of their own."""

    def carried(self, x: float) -> Carried:
        """What is left to say at x, all before it forgotten."""
        _, hard_low, hard_up, low, up = (float(v[0]) for v in self.table.at(np.array([x])))
        k = max(sum(w.begin <= x for w in self.rates.windows) - 1, 0)
        window, doubt = self.rates.windows[k], float(self.rates.doubt[k])
        window = replace(window, begin=min(window.begin, x), end=x)
        rate = float(self.rates.shape.rate(np.array([window.middle]))[0])
        window = replace(window, margin=replace(window.margin, slope=rate, low=rate - doubt, high=rate + doubt))
        return Carried(x, hard_low, hard_up, low, up, window, self.rates.surprise / 2, self.rates.steady)


def tube(
    limits: Limits,
    rho: float,
    *,
    out: float = 0.0,
    back: float = 0.0,
    carried: Carried | None = None,
    known: Windows | None = None,
    whole: bool = False,
) -> Tube:
    """Of limits from at least one exchange; rho: the datasheet's limit on the rate error.

    `out` and `back`, ns: calibrated smallest delays. They narrow the tight band and move the estimate; the hard
    bound holds whether they are right or not. `known`: windows of an earlier call, for speed. `whole`: don't look for
    steps of the clock.
    """
    inner = replace(limits, lower=limits.lower + out, upper=limits.upper - back, trip=limits.trip - out - back)
    found = Windows(inner, 1.05 * rho, known)
    last = found.latest()
    windows = [w for w in found.leaves() if w.middle < last.middle - last.length / 8] + [last]
    if carried is not None:
        windows = [carried.window, *windows]
    x = _nodes(inner, carried)
    usual = wander = WANDER * max(1.0, rho / 1e-4)
    before = (0.0, True) if carried is None else (carried.surprise, carried.steady)
    found_steps: list[tuple[float, float]] = []
    # If the band closes, the clock was set, or the rate changes faster than was thought, or is less sure.
    for most in (2, 2, 2, 12):
        rates = rates_of(windows, wander, usual, *before)
        shape = rates.shape
        xl, low, xu, up = inner.xl, inner.lower - shape(inner.xl), inner.xu, inner.upper - shape(inner.xu)
        if carried is not None:
            base = float(shape(np.array([carried.x]))[0])
            xl, low = _with(xl, low, carried.x, carried.low - base)
            xu, up = _with(xu, up, carried.x, carried.up - base)
        limited = Band(xl, low, xu, up, rates, rho)
        band = limited.narrowest(x, most)
        if band.opens:
            break
        if rates.steady and not whole and (found_steps := limited.steps(x)):
            break
        wander = 4.0 * rates.wander
    level = _level(x, band.bottom, band.top, windows)
    xl, xu, lower, upper = limits.xl, limits.xu, limits.lower, limits.upper
    if carried is not None:
        xl, lower = _with(xl, lower, carried.x, carried.hard_low)
        xu, upper = _with(xu, upper, carried.x, carried.hard_up)
    table = Table(
        x, shape(x) + level, below(rho * xl, lower, rho * x), above(rho * xu, upper, rho * x),
        band.low - level, band.up - level, band.kappa, rho, rates.wander, (float(rates.rate[0]), float(rates.rate[-1])),
    )  # fmt: skip
    return Tube(table, rates, found, found_steps)


def _with(x: Float64, y: Float64, at: float, value: float) -> tuple[Float64, Float64]:
    """One more point, in its place."""
    i = int(np.searchsorted(x, at))
    return np.insert(x, i, at), np.insert(y, i, value)


def _nodes(m: Limits, carried: Carried | None) -> Float64:
    """Every limit's x, and more where they are far apart."""
    first, last = min(m.xl[0], m.xu[0]), max(m.xl[-1], m.xu[-1])
    grid = np.linspace(first, last, int(min(NODES, 2 + (last - first) / 1e9)))
    more = [] if carried is None else [np.array([carried.x])]
    return np.unique(np.concatenate([m.xl, m.xu, grid, *more]))


def _level(x: Float64, bottom: Float64, top: Float64, windows: list[Window]) -> Float64:
    """The likeliest height over the shape: the straightest that delays at least as long as the smallest allow.

    The band's middle is averaged over part of the window at each place. Where the band is wider than elsewhere, one
    way's limits come from far, or its delays were longer, and the middle moves for no other reason: there the height
    may stay away from it by as much, but never far.
    """
    middle, half = (bottom + top) / 2, (top - bottom) / 2
    area = np.concatenate([[0.0], np.cumsum((middle[1:] + middle[:-1]) / 2 * np.diff(x))])
    reach = QUARTER * np.interp(x, [w.middle for w in windows], [w.length for w in windows])
    left, right = np.maximum(x - reach, x[0]), np.minimum(x + reach, x[-1])
    span = right - left
    mean = (np.interp(right, x, area) - np.interp(left, x, area)) / np.where(span > 0, span, 1.0)
    low, high = middle - INNER * half, middle + INNER * half
    mean = np.clip(np.where(span > 0, mean, middle), low, high)
    free, narrowest = half - half.min(), int(np.argmin(half))
    some = np.unique(np.append(np.linspace(0, x.size - 1, min(x.size, STRING)).astype(np.int64), narrowest))
    k = int(np.searchsorted(some, narrowest))
    z, height, room = x[some], mean[some], free[some]
    height[k:] = _string(z[k:], height[k:] - room[k:], height[k:] + room[k:])
    height[k::-1] = _string(-z[k::-1], height[k::-1] - room[k::-1], height[k::-1] + room[k::-1])
    return np.asarray(np.clip(np.interp(x, z, height), low, high))


def _string(x: Float64, low: Float64, high: Float64) -> Float64:
    """The shortest way from between the first low and high to the last, between them all; x ascending."""
    y = np.full(x.size, (low[0] + high[0]) / 2)
    i = 0
    while i + 1 < x.size:
        run = x[i + 1 :] - x[i]
        up, down = (low[i + 1 :] - y[i]) / run, (high[i + 1 :] - y[i]) / run
        least, most = np.maximum.accumulate(up), np.minimum.accumulate(down)
        blocked = least > most
        if not blocked[1:].any():
            y[i + 1 :] = y[i] + run * np.clip(0.0, least[-1], max(least[-1], most[-1]))
            break
        # A straight line gets no further than here: it bends at the corner that is in its way.
        stop = int(np.argmax(blocked[1:])) + 1
        above_it = up[stop] > most[stop - 1]
        turn = int(np.argmin(down[:stop])) if above_it else int(np.argmax(up[:stop]))
        slope = down[turn] if above_it else up[turn]
        y[i + 1 :] = y[i] + slope * run
        i += turn + 1
    return y
