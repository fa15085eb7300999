"""One span of a clock: the band that exchanges leave open, and where in it the truth most likely is.

    lower(x) <= theta(x) <= upper(x),    theta = lab time - nominal device time x

Causality gives the limits, one pair per exchange; the datasheet's ppm carries them to other moments (hard). How far
the true rate may be from the fitted one carries them further (tight). Derivations: `docs/explanation/clocks.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .bounds import above, below
from .shape import Shape, smoothed
from .table import Table
from .windows import Limits, Window, Windows

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

WANDER = 8e-18
"""1/ns: so fast may the rate of a 100 ppm crystal change (8 ppb/s, a board that warms up); of poorer oscillators in
proportion to their datasheet's ppm."""
NEAR = 0.3e-6
"""Least doubt about a rate over seconds ..."""
FAR = 0.02e-6
"""... and over many windows."""
LEVELS = 4.0
"""A line's height is known to so many times `Window.level`."""
QUARTER = 0.25
"""Of a window's length: the band's middle is averaged over so much on either side."""
INNER = 0.25
"""The estimate stays within this share of the band about its middle."""
NARROW = 0.25
"""Of the smallest round trip. A band narrower than that is one whose rates are less sure than was thought."""
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


@dataclass(frozen=True, slots=True)
class Tube:
    """The result."""

    table: Table
    shape: Shape
    windows: list[Window]
    found: Windows


def tube(
    limits: Limits,
    rho: float,
    *,
    out: float = 0.0,
    back: float = 0.0,
    carried: Carried | None = None,
    known: Windows | None = None,
) -> Tube:
    """Of limits from at least one exchange; rho: the datasheet's limit on the rate error.

    `out` and `back`, ns: calibrated smallest delays. They narrow the tight band and move the estimate; the hard
    bound holds whether they are right or not. `known`: windows of an earlier call, for speed.
    """
    poor = max(1.0, rho / 1e-4)
    wander = WANDER * poor
    inner = replace(limits, lower=limits.lower + out, upper=limits.upper - back, trip=limits.trip - out - back)
    found = Windows(inner, 1.05 * rho, known)
    last = found.latest()
    windows = [w for w in found.leaves() if w.middle < last.middle - last.length / 8] + [last]
    rates, doubt, wander = smoothed(windows, wander)
    doubt = np.minimum(doubt, 2 * rho)
    shape = Shape(np.array([w.middle for w in windows]), rates)
    x = _nodes(inner, carried)
    base, low, up = shape(x), inner.lower - shape(inner.xl), inner.upper - shape(inner.xu)
    band = _Band(inner, low, up, windows, rates, doubt, rho, poor, wander, carried, shape)
    bottom, top, kappa = band.narrowest(x)
    level = _level(x, bottom, top, windows)
    theta = base + level
    xl, xu, lower, upper = limits.xl, limits.xu, limits.lower, limits.upper
    if carried is not None:
        xl, lower = _with(xl, lower, carried.x, carried.hard_low)
        xu, upper = _with(xu, upper, carried.x, carried.hard_up)
    table = Table(
        x, theta, below(rho * xl, lower, rho * x), above(rho * xu, upper, rho * x), bottom - level, top - level, kappa,
        rho, wander, (float(rates[0]), float(rates[-1])),
    )  # fmt: skip
    return Tube(table, shape, windows, found)


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


class _Band:
    """Limits to theta less the shape, carried from where they are by what is known of the rate.

    Two rules, of which the narrower counts: over seconds the rate may be off by `near`; over many windows by `far`
    only, but then each line's height counts as well (`apart`).
    """

    def __init__(
        self,
        limits: Limits,
        low: Float64,
        up: Float64,
        windows: list[Window],
        rates: Float64,
        doubt: Float64,
        rho: float,
        poor: float,
        wander: float,
        carried: Carried | None,
        shape: Shape,
    ) -> None:
        self.xl, self.low, self.xu, self.up = limits.xl, low, limits.xu, up
        if carried is not None:
            base = float(shape(np.array([carried.x]))[0])
            self.xl, self.low = _with(self.xl, self.low, carried.x, carried.low - base)
            self.xu, self.up = _with(self.xu, self.up, carried.x, carried.up - base)
        self.rho, self.poor, self.doubt = rho, poor, doubt
        self.wander = wander
        self.centre = np.array([w.middle for w in windows])
        self.length = np.array([w.length for w in windows])
        # Within a window the rate may wander, but no more than its straightness allows.
        straight = 4.0 * np.array([w.grain for w in windows]) / self.length
        self.bend = np.minimum(wander * self.length / 2, straight)
        trip = np.array([max(w.trip, 0.0) for w in windows])
        jump = np.abs(np.diff(rates, prepend=rates[0], append=rates[-1]))
        self.jump = np.maximum(jump[1:], jump[:-1]) / 2
        # Between windows the rate is taken to change evenly, and not at all beyond the last one's middle.
        self.curve = np.concatenate([self.jump[:1], np.abs(np.diff(rates, 2)) / 4, self.jump[-1:]])[: rates.size]
        self.apart = LEVELS * np.array([w.level for w in windows]) + np.minimum(
            self.jump * self.length / 4, 0.05 * trip
        )
        self.least = NARROW * float(trip.min())

    def narrowest(self, x: Float64) -> tuple[Float64, Float64, Float64]:
        """Bottom, top and doubt about the rate (from each node to the next) at nodes x.

        If the band closes, which the truth forbids, all doubts are doubled until it opens.
        """
        for times in 2.0 ** np.arange(12):
            near = np.minimum(times * (NEAR * self.poor + self.doubt + self.jump + self.bend), 2 * self.rho)
            far = np.minimum(times * (FAR * self.poor + self.doubt + self.curve), 2 * self.rho)
            apart = times * np.interp(x, self.centre, self.apart)
            kappa, k = self._spread(x, near)
            bottom, top = self._carry(x, k)
            _, k = self._spread(x, far)
            low, up = self._carry(x, k)
            bottom, top = np.maximum(bottom, low - apart), np.minimum(top, up + apart)
            if float((top - bottom).min()) >= self.least:
                break
        return bottom, top, np.append(kappa, near[-1])

    def _spread(self, x: Float64, doubt: Float64) -> tuple[Float64, Float64]:
        """kappa between nodes x and its integral."""
        at, gap = np.interp(x, self.centre, doubt), np.diff(x)
        kappa = np.minimum(np.maximum(at[1:], at[:-1]) + self.wander * gap / 4, 2 * self.rho)
        return kappa, np.concatenate([[0.0], np.cumsum(kappa * gap)])

    def _carry(self, x: Float64, k: Float64) -> tuple[Float64, Float64]:
        """Every limit's x is a node, so that interpolation is exact."""
        lower = below(np.interp(self.xl, x, k), self.low, k)
        return lower, above(np.interp(self.xu, x, k), self.up, k)
