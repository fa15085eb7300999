"""From a sensor's reading to the quantity, fast: a fine table of the inverse, made from the curve itself.

A reading is looked up by its distance z from a pole, a little beyond the end at which the curve is flatter. The table
has knots at the numbers whose first digits, in binary, are all there are: the same number of them from z to 2 z
wherever z lies. So they lie close together where a sensor loses its sensitivity (a thermocouple near absolute zero,
platinum towards its melting point), and straight lines between them are enough; and z's own first bits, taken as a
whole number, say between which two it lies, without a search, a root, or a conversion.
"""

from __future__ import annotations

from functools import cached_property
from math import ceil, log

import numpy as np
from numpy.typing import ArrayLike

from .curve import STEPS, Bools, Curve, Estimate, Float64, Outside, doubles
from .errors import CalibrationError, NotMonotone
from .horner import BLOCK, blocks

ACCURACY = 5e-5
"""Greatest error of a table, in the unit of x: 0.05 mK, below what any of these sensors can tell."""
BITS, MOST_BITS, MANTISSA = 10, 40, 52
"""Of z that count beside its exponent: in the first table, in any, and those that a double has."""
MOST_KNOTS = 1 << 17
"""2 MiB leave the cache."""
COARSE = 1 << 12
"""Places at which the curve is looked at before there is a table."""
NEWTON = 8
ARRIVED = 1e-10
"""Newton's steps at most, and the step, as a fraction of the range, with which a knot counts as solved."""
NEAR, FAR = 1e-7, 100.0
"""How far from the curve's end the pole may be, in heights of the curve: further away, the knots are nearly even."""


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
        self._find_pole()
        self._seam = None
        if seam is not None and span[0] < seam < span[1]:
            self._seam = float(curve.values(seam))
        bits = BITS
        while not (fits := self._fill(bits)) or self.error > accuracy:
            bits += ceil(log(self.error / accuracy, 4.0)) if fits else MOST_BITS  # half as wide, a quarter as wrong
            if bits > MOST_BITS:
                raise CalibrationError(
                    f"{curve.name}: no table of its inverse is accurate to {accuracy:g} {curve.unit_in}"
                )

    def __call__(self, y: Float64) -> Float64:
        """x for y of any shape; NaN stays NaN."""
        return self.find(y, -np.inf, np.inf)[0]

    def find(self, y: Float64, low: float, high: float, steep: bool = False) -> tuple[Float64, Float64 | None, bool]:
        """x for y of any shape; if `steep` |dx/dy| too; and whether every y lies from `low` to `high`, and is no NaN.

        |dx/dy| is that of the line between two knots, off by some parts in 10,000: enough for an uncertainty.
        """
        flat = y.reshape(-1)
        out, rates = np.empty(flat.size), np.empty(flat.size if steep else 0)
        size = min(flat.size, BLOCK)
        place, rate, index = np.empty(size), np.empty(size), np.empty(size, np.int64)
        within = True
        with np.errstate(invalid="ignore"):
            for block in blocks(flat.size):
                part, x = flat[block], out[block]
                z, i = place[: part.size], index[: part.size]
                b = rates[block] if steep else rate[: part.size]
                within = within and bool(low <= part.min() and part.max() <= high)
                if self._ahead:
                    np.subtract(part, self._pole, out=z)
                else:
                    np.subtract(self._pole, part, out=z)
                np.right_shift(z.view(np.int64), self._shift, out=i)
                np.subtract(i, self._first, out=i)
                np.take(self._slopes, i, out=b, mode="clip")
                np.multiply(z, b, out=x)
                np.take(self._offsets, i, out=z, mode="clip")
                np.add(x, z, out=x)
        if steep and self._slopes[0] < 0.0:
            np.negative(rates, out=rates)
        return out.reshape(y.shape), rates.reshape(y.shape) if steep else None, within

    def _find_pole(self) -> None:
        """Where the parabola that osculates the curve at its flatter end would turn; or far beyond that end."""
        ends = np.array(self._span)
        y, slope = self._curve.values(ends), self._curve.slopes(ends)
        flat = int(np.argmin(np.abs(slope)))
        inwards = 1e-3 * (ends[1 - flat] - ends[flat])
        bend = float((self._curve.slopes(ends[flat] + inwards) - slope[flat]) / inwards)
        self._reach = np.sort(y)
        self._rising = bool(y[1] > y[0])
        self._ahead = bool(y[1 - flat] > y[flat])
        height = float(np.ptp(y))
        distance = FAR * height
        if (bend > 0.0) == self._ahead and bend:
            distance = min(distance, float(slope[flat]) ** 2 / (2.0 * abs(bend)))
        self._beyond_end = max(distance, NEAR * height)

    def _fill(self, bits: int) -> bool:
        """Lay the knots, one on the seam, and solve the curve on them; whether there is room for so many."""
        sign = 1.0 if self._ahead else -1.0
        end, far = self._reach if self._ahead else self._reach[::-1]
        self._shift = MANTISSA - bits
        self._pole = float(end) - sign * self._beyond_end
        if self._seam is not None:
            z = abs(self._seam - self._pole)
            self._pole -= sign * (float(self._knot(self._number(z) + 1)) - z)
        first, last = (self._number(abs(y - self._pole)) for y in (end, far))
        if last - first > MOST_KNOTS:
            return False
        self._first = first
        reach = np.abs(np.array([end, far]) - self._pole)
        knots = np.array([reach[0], *(self._knot(np.arange(first + 1, last + 1))), reach[1]])
        knots = knots[np.append(True, np.diff(knots) > 0.0)]  # the far end may be a knot itself

        def at(z: Float64) -> Float64:
            return np.clip(self._pole + sign * z, *self._reach)

        x = self._solve(at(knots))
        self._slopes = np.diff(x) / np.diff(knots)
        self._offsets = x[:-1] - self._slopes * knots[:-1]
        middle = at(0.5 * (knots[:-1] + knots[1:]))
        found = self(middle)
        miss = (self._curve.values(found) - middle) / self._curve.slopes(found)
        self.error = float(np.abs(miss).max())
        return True

    def _number(self, z: float) -> int:
        """The first bits of z as a whole number: those of its exponent, and of its mantissa as many as count."""
        return int(np.float64(z).view(np.int64)) >> self._shift

    def _knot(self, number: ArrayLike) -> Float64:
        """The least z with these first bits."""
        return (np.asarray(number, np.int64) << self._shift).view(np.float64)

    def _solve(self, y: Float64) -> Float64:
        """The curve's inverse at the knots: Newton's steps from a coarse table; halving if they don't arrive."""
        low, high = self._span
        coarse = np.linspace(low, high, COARSE)
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
        x = np.linspace(*self._span, COARSE)
        y = self._curve.values(x)
        back = np.flatnonzero(np.diff(y) * (y[-1] - y[0]) <= 0.0)
        if back.size:
            raise NotMonotone(
                f"{self._curve.name}: it can't be inverted, it turns back near {x[back[0]]:g} {self._curve.unit_in}"
            )


class Tabled(Curve):
    """A curve whose inverse is looked up: `solve` and `inverse` are exact to `accuracy`."""

    accuracy: float = ACCURACY

    @property
    def span(self) -> tuple[float, float]:
        """Where the formulas hold and rise or fall throughout: the invertible range, unless a subclass knows more."""
        return self.invertible

    @property
    def seam(self) -> float | None:
        """The x, if any, at which the slope jumps from one formula to the next."""
        return None

    @property
    def rounding(self) -> tuple[float, float]:
        """By how much a reading may lie beyond the least and the greatest y and still is that one: half of the last
        digit of the printed table, whose own ends are often rounded away from the curve's."""
        return 0.0, 0.0

    @property
    def exact(self) -> bool:
        """Whether `own` is 0 everywhere."""
        return True

    @cached_property
    def lookup(self) -> Lookup:
        """The table; made at the first use, in about as many milliseconds as it has thousands of knots."""
        return Lookup(self, self.span, self.seam, self.accuracy)

    def solve(self, y: Float64) -> Float64:
        """x in the span with f(x) = y for y within its reach, some ns a sample; NaN for NaN."""
        return self.lookup(y)

    def find(self, y: Float64, low: float, high: float, steep: bool) -> tuple[Float64, Float64 | None, bool]:
        """As `Lookup.find`."""
        return self.lookup.find(y, low, high, steep)

    def inverse(self, y: ArrayLike, uncertainty: ArrayLike = 0.0, *, outside: Outside = "refuse") -> Estimate:
        """As `Curve.inverse`; with "mark" the curve goes on to the ends of its span and from there by its tangents."""
        y, sigma = doubles(y), self._sigma(uncertainty)
        doubt = bool(np.any(sigma))
        x, rate, within = self.find(y, *self._reach, doubt and self.exact)
        within = within and outside in ("refuse", "mark")
        beyond: Bools = np.broadcast_to(np.False_, y.shape)  # takes neither memory nor the time to clear it
        spread: Float64 = np.broadcast_to(np.float64(0.0), y.shape)
        if within and self.exact:
            if rate is not None:  # in place, if it fits: a million readings more cost as much as looking them up
                spread = np.multiply(sigma, rate, out=rate if sigma.shape in ((), rate.shape) else None)
            return Estimate(x, spread, beyond, self.unit_in)
        near = y
        if not within:
            low, high = self._reach
            below, above = self.rounding
            y = np.where((y < low) & (y >= low - below), low, np.where((y > high) & (y <= high + above), high, y))
            beyond = self._beyond(y, self._reach, self.unit_out, outside)
            near = np.clip(y, *self._far_reach)
            x = self.solve(near)
        slope = self.slopes(x)
        spread = (sigma if self.exact else np.hypot(sigma, self.own(x))) / np.abs(slope)
        return Estimate(np.asarray(x + (y - near) / slope), spread, beyond, self.unit_in)

    @cached_property
    def _reach(self) -> tuple[float, float]:
        return self._between(self.invertible)

    @cached_property
    def _far_reach(self) -> tuple[float, float]:
        return self._between(self.span)

    def _between(self, ends: tuple[float, float]) -> tuple[float, float]:
        low, high = sorted(self.values(np.array(ends)).tolist())
        return low, high
