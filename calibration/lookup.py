"""From a sensor's reading to the quantity, fast: a fine table of the inverse, made from the curve itself.

The grid is even in w = sqrt(|y - apex|), not in y. Where a sensor loses its sensitivity (a thermocouple near absolute
zero, platinum towards its melting point) its curve comes close to the apex of a parabola, and there x is nearly
straight in w. So one even grid serves the whole range, a sample's place in it is computed, not searched for, and
straight lines between the knots are enough.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from .curve import STEPS, Bools, Curve, Estimate, Float64, Outside
from .errors import CalibrationError, NotMonotone
from .horner import BLOCK, blocks

ACCURACY = 1e-5
"""Greatest error of a table, in the unit of x: 0.01 mK, far below what any of these sensors can tell."""
KNOTS, GROWTH, MOST_KNOTS = 1 << 12, 1.5, 1 << 17
"""Of the first table, of each next one while it is not accurate enough, and when to stop: 2 MiB leave the cache."""
NEWTON = 8
ARRIVED = 1e-10
"""Newton's steps at most, and the step, as a fraction of the range, with which a knot counts as solved."""
FAR = 100.0
"""An apex is sought no further away than this many times the curve's height: beyond, the curve is nearly straight."""


class Lookup:
    """x at which a monotone curve has the value y, within a range of x; beyond that range without meaning."""

    error: float
    """Greatest error found half-way between two knots, in the unit of x."""

    def __init__(
        self, curve: Curve, span: tuple[float, float], seam: float | None = None, accuracy: float = ACCURACY
    ) -> None:
        """`span`: least and greatest x. `seam`: an x at which the slope jumps; a knot is laid there.

        Raises `NotMonotone` if the curve turns back within its span, `CalibrationError` if it is too bent for a table.
        """
        self._curve = curve
        self._span = span
        self._check_monotone()
        self._find_apex()
        self._seam = None
        if seam is not None and span[0] < seam < span[1]:
            self._seam = float(curve.values(seam))
        knots = KNOTS
        self._fill(knots)
        while self.error > accuracy and knots < MOST_KNOTS:
            knots = int(GROWTH * knots)
            self._fill(knots)
        if not self.error <= accuracy:
            raise CalibrationError(f"{curve.name}: no table of its inverse is accurate to {accuracy:g} {curve.unit_in}")

    def __call__(self, y: Float64) -> Float64:
        """x for y of any shape; NaN stays NaN."""
        flat = y.reshape(-1)
        out = np.empty(flat.size)
        size = min(flat.size, BLOCK)
        place, slope, index = np.empty(size), np.empty(size), np.empty(size, np.intp)
        with np.errstate(invalid="ignore"):  # NaN and what is beyond the apex have no place: they give NaN
            for block in blocks(flat.size):
                part, x = flat[block], out[block]
                n = part.size
                f, b, i = place[:n], slope[:n], index[:n]
                self._root(part, f)
                np.subtract(f, self._first, out=f)
                np.copyto(i, f, casting="unsafe")
                np.take(self._slopes, i, out=b, mode="clip")
                np.multiply(f, b, out=f)
                np.take(self._offsets, i, out=x, mode="clip")
                np.add(x, f, out=x)
        return out.reshape(y.shape)

    def _root(self, y: Float64, out: Float64) -> None:
        """Where y lies among the knots, counted from the apex."""
        np.multiply(y, self._scale, out=out)
        np.add(out, self._shift, out=out)
        np.sqrt(out, out=out)

    def steepness(self, y: Float64) -> Float64:
        """dx/dy at y: that of the line between two knots, off by some parts in 10,000; enough for an uncertainty."""
        flat = y.reshape(-1)
        out = np.empty(flat.size)
        size = min(flat.size, BLOCK)
        place, index = np.empty(size), np.empty(size, np.intp)
        with np.errstate(invalid="ignore", divide="ignore"):
            for block in blocks(flat.size):
                part, x = flat[block], out[block]
                f, i = place[: part.size], index[: part.size]
                self._root(part, f)
                np.subtract(f, self._first, out=x)
                np.copyto(i, x, casting="unsafe")
                np.take(self._slopes, i, out=x, mode="clip")
                np.multiply(x, 0.5 * self._scale, out=x)
                np.divide(x, f, out=x)
        return out.reshape(y.shape)

    def _find_apex(self) -> None:
        """The apex of the parabola that osculates the curve at its flatter end, or one far beyond that end."""
        ends = np.array(self._span)
        y, slope = self._curve.values(ends), self._curve.slopes(ends)
        flat = int(np.argmin(np.abs(slope)))
        inwards = 1e-3 * (ends[1 - flat] - ends[flat])
        bend = float((self._curve.slopes(ends[flat] + inwards) - slope[flat]) / inwards)
        self._reach = np.sort(y)
        self._rising = bool(y[1] > y[0])
        self._sign = float(np.sign(y[1 - flat] - y[flat]))
        distance = FAR * float(np.ptp(y))
        if self._sign * bend > 0.0:
            distance = min(distance, float(slope[flat]) ** 2 / (2.0 * abs(bend)))
        self._apex = float(y[flat]) - self._sign * distance

    def _fill(self, knots: int) -> None:
        """Lay the grid, one knot on the seam, and solve the curve on it."""
        w = np.sort(np.sqrt(np.abs(self._reach - self._apex)))
        step = float(w[1] - w[0]) / (knots - 1)
        ends = w / step
        seam = ends[0] if self._seam is None else np.sqrt(abs(self._seam - self._apex)) / step
        self._first = float(np.floor(ends[0] - seam) + seam)
        self._scale = self._sign / step**2
        self._shift = -self._apex * self._scale
        place = np.arange(np.ceil(ends[1] - self._first) + 1.0)
        place[[0, -1]] = ends - self._first  # the outer lines go through the ends of the range, which need be no knots

        def at(place: Float64) -> Float64:
            return np.clip(self._apex + self._sign * ((place + self._first) * step) ** 2, *self._reach)

        x = self._solve(at(place))
        slopes = np.diff(x) / np.diff(place)
        self._slopes = np.append(slopes, slopes[-1])  # one more for a y just at the end
        self._offsets = np.append(x[:-1], x[-2]) - self._slopes * np.append(place[:-1], place[-2])
        middle = at(0.5 * (place[:-1] + place[1:]))
        found = self(middle)
        miss = (self._curve.values(found) - middle) / self._curve.slopes(found)
        self.error = float(np.abs(miss).max())

    def _solve(self, y: Float64) -> Float64:
        """The curve's inverse at the knots: Newton's steps from a coarse table; halving if they don't arrive."""
        low, high = self._span
        coarse = np.linspace(low, high, KNOTS)
        order = slice(None) if self._rising else slice(None, None, -1)
        x: Float64 = np.interp(y, self._curve.values(coarse)[order], coarse[order])
        for _ in range(NEWTON):
            with np.errstate(divide="ignore", invalid="ignore"):
                new = np.clip(x - (self._curve.values(x) - y) / self._curve.slopes(x), low, high)
            moved = np.abs(new - x)
            x = new
            if np.all(moved < ARRIVED * (high - low)):
                return x
        return self._halve(y)

    def _halve(self, y: Float64) -> Float64:
        low, high = (np.full(y.shape, end) for end in self._span)
        for _ in range(STEPS):
            x = 0.5 * (low + high)
            above = (self._curve.values(x) > y) == self._rising
            low, high = np.where(above, low, x), np.where(above, x, high)
        return np.asarray(0.5 * (low + high))

    def _check_monotone(self) -> None:
        x = np.linspace(*self._span, KNOTS)
        y = self._curve.values(x)
        back = np.flatnonzero(np.diff(y) * (y[-1] - y[0]) <= 0.0)
        if back.size:
            raise NotMonotone(
                f"{self._curve.name}: it can't be inverted, it turns back near {x[back[0]]:g} {self._curve.unit_in}"
            )


class Tabled(Curve):
    """A curve whose inverse is looked up: `solve` and `inverse` are exact to `ACCURACY` (10 uK for a thermometer)."""

    @property
    def span(self) -> tuple[float, float]:
        """Where the formulas hold and rise or fall throughout: the invertible range, unless a subclass knows more."""
        return self.invertible

    @property
    def seam(self) -> float | None:
        """The x, if any, at which the slope jumps from one formula to the next."""
        return None

    @property
    def exact(self) -> bool:
        """Whether `own` is 0 everywhere."""
        return True

    @cached_property
    def lookup(self) -> Lookup:
        """The table; made at the first use, in about as many milliseconds as it has thousands of knots."""
        return Lookup(self, self.span, self.seam)

    def solve(self, y: Float64) -> Float64:
        """x in the span with f(x) = y for y within its reach, some ns a sample; NaN for NaN."""
        return self.lookup(y)

    def steepness(self, y: Float64, x: Float64) -> Float64:
        """dx/dy where f(x) = y, to 0.1 %, for uncertainties: from the table, in a fraction of the time of `slopes`."""
        return self.lookup.steepness(y)

    def inverse(self, y: ArrayLike, uncertainty: ArrayLike = 0.0, *, outside: Outside = "refuse") -> Estimate:
        """As `Curve.inverse`; with "mark" the curve goes on to the ends of its span and from there by its tangents."""
        y = np.asarray(y, np.float64)
        low, high = self._reach
        beyond: Bools = np.broadcast_to(np.False_, y.shape)  # takes neither memory nor the time to clear it
        inside = y
        if outside not in ("refuse", "mark") or (y.size and not (low <= y.min() and y.max() <= high)):  # or NaN
            beyond = self._beyond(y, self._reach, self.unit_out, outside)
            inside = np.clip(y, *self._far_reach)
        x, sigma = self.solve(inside), self._sigma(uncertainty)
        spread: Float64 = np.broadcast_to(np.float64(0.0), x.shape)
        if inside is y and self.exact:
            if np.any(sigma):
                spread = sigma * np.abs(self.steepness(y, x))
        else:
            slope = self.slopes(x)
            spread = (sigma if self.exact else np.hypot(sigma, self.own(x))) / np.abs(slope)
            if inside is not y:
                x = np.asarray(x + (y - inside) / slope)
        return Estimate(x, spread, beyond, self.unit_in)

    @cached_property
    def _reach(self) -> tuple[float, float]:
        return self._between(self.invertible)

    @cached_property
    def _far_reach(self) -> tuple[float, float]:
        return self._between(self.span)

    def _between(self, ends: tuple[float, float]) -> tuple[float, float]:
        low, high = sorted(self.values(np.array(ends)).tolist())
        return low, high
