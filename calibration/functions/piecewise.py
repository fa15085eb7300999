"""Curves through points: a table interpolated without bumps, straight or smooth, and a natural cubic spline."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..curve import STEPS, Curve, Float64, doubles
from ..errors import CalibrationError, NotMonotone
from .base import ends, numbers

Indices = NDArray[np.intp]
Between = Literal["smooth", "straight"]


class Points(Curve):
    """Cubics between points (x, y) with a slope at each; beyond the first and the last their tangents."""

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        unit_in: str,
        unit_out: str,
        name: str,
        uncertainties: ArrayLike | None = None,
        valid: tuple[float, float] | None = None,
    ) -> None:
        """x in any order, each once; y likewise; uncertainties: standard ones of y at the points, if known.

        valid: within the points; from the first to the last if None.
        """
        self.name, self.unit_in, self.unit_out = name, unit_in, unit_out
        self.x, self.y = numbers(name, "x", x, 2), numbers(name, "y", y, 2)
        order = np.argsort(self.x)
        self.uncertainties = None if uncertainties is None else numbers(name, "uncertainties", uncertainties, 2)
        for what, values in (("y", self.y), ("uncertainties", self.uncertainties)):
            if values is not None and values.size != self.x.size:
                raise CalibrationError(
                    f"{name}: {self.x.size} x and {values.size} {what}; one is needed for each point"
                )
        self.x, self.y = self.x[order], self.y[order]
        if self.uncertainties is not None:
            self.uncertainties = self.uncertainties[order]
            if self.uncertainties.min() < 0.0:
                raise CalibrationError(f"{name}: a standard uncertainty can't be negative")
        step = np.diff(self.x)
        if not (step > 0.0).all():
            twice = float(self.x[1:][~(step > 0.0)][0])
            raise CalibrationError(f"{name}: two points have the same x, {twice:g} {unit_in}; keep one of them")
        self.valid = ends(name, (float(self.x[0]), float(self.x[-1])) if valid is None else valid)
        if self.valid[0] < self.x[0] or self.valid[1] > self.x[-1]:
            raise CalibrationError(
                f"{name}: its points reach from {self.x[0]:g} to {self.x[-1]:g} {unit_in}, and its valid range further"
            )
        left, right = self._knot_slopes(step, np.diff(self.y) / step)
        rise = np.diff(self.y)
        # In t = (x - x_i) / h: y_i + t (b + t (c + t d)), from values and slopes at both ends.
        b, e = left * step, right * step
        self._step, self._b, self._c, self._d = step, b, 3.0 * rise - 2.0 * b - e, b + e - 2.0 * rise

    def _knot_slopes(self, step: Float64, chord: Float64) -> tuple[Float64, Float64]:
        """The slopes at the left and the right end of each piece."""
        raise NotImplementedError

    @property
    def invertible(self) -> tuple[float, float]:
        """The valid range; `NotMonotone` if any piece that it touches turns back."""
        low, high = self.valid
        touched = slice(*(self._piece(np.array([low, np.nextafter(high, low)])) + [0, 1]))
        b, c, d = self._b[touched], self._c[touched], self._d[touched]
        with np.errstate(divide="ignore", invalid="ignore"):
            vertex = np.where(d != 0.0, np.clip(-c / (3.0 * d), 0.0, 1.0), 0.0)
        slopes = np.stack([b, b + 2.0 * c + 3.0 * d, b + vertex * (2.0 * c + 3.0 * d * vertex)])
        rise = np.diff(self.y)[touched]
        tiny = 1e-9 * np.abs(rise)  # slopes that cancel to nothing leave a rounding error
        sign = np.sign(rise.sum()) or 1.0
        bad = (sign * slopes < -tiny).any(axis=0) | (sign * rise <= 0.0)
        if bad.any():
            where = float(self.x[touched.start + int(np.argmax(bad))])
            raise NotMonotone(
                f"{self.name}: it can't be inverted, it turns back after {where:g} {self.unit_in}; "
                "narrow its valid range or leave the point out"
            )
        return self.valid

    def values(self, x: ArrayLike) -> Float64:
        i, t, beyond = self._where(x)
        inside = self.y[i] + t * (self._b[i] + t * (self._c[i] + t * self._d[i]))
        inside = np.where(t == 1.0, self.y[i + 1], inside)  # the point itself, and no rounding beyond it
        return np.asarray(inside + beyond * self._rate(i, t))

    def slopes(self, x: ArrayLike) -> Float64:
        i, t, _ = self._where(x)
        return self._rate(i, t)

    def own(self, x: ArrayLike) -> Float64:
        """That of the points, straight between them: true if their errors go together, too large if they don't."""
        if self.uncertainties is None:
            return super().own(x)
        return np.asarray(np.interp(doubles(x), self.x, self.uncertainties))

    def solve(self, y: Float64) -> Float64:
        """The piece by searching y, then Newton's steps within it, halving wherever they leave the bracket."""
        y = doubles(y)
        low, high = self.invertible
        rising = self.y[-1] > self.y[0]
        table = self.y if rising else -self.y
        first, last = self._piece(np.array([low, np.nextafter(high, low)]))
        side: Literal["right"] = "right"
        i = np.clip(first + np.searchsorted(table[first : last + 1], y if rising else -y, side) - 1, first, last)
        b, c, d, miss_at_0 = self._b[i], self._c[i], self._d[i], self.y[i] - y
        t = np.clip(-miss_at_0 / (self.y[i + 1] - self.y[i]), 0.0, 1.0)
        below, above = np.zeros(np.shape(y)), np.ones(np.shape(y))
        for _ in range(STEPS):
            miss = miss_at_0 + t * (b + t * (c + t * d))
            over = (miss > 0.0) if rising else (miss < 0.0)
            above, below = np.where(over, t, above), np.where(over, below, t)
            with np.errstate(divide="ignore", invalid="ignore"):
                step = t - miss / (b + t * (2.0 * c + 3.0 * d * t))
            new = np.where((step >= below) & (step <= above), step, 0.5 * (below + above))
            new = np.where(np.isnan(y), np.nan, new)
            moved = np.abs(new - t)
            t = new
            if not np.any(moved > 1e-15):
                break
        return np.asarray(np.clip(self.x[i] + t * self._step[i], low, high))

    def _piece(self, x: Float64) -> Indices:
        return np.asarray(np.clip(np.searchsorted(self.x, x, "right") - 1, 0, self.x.size - 2))

    def _where(self, x: ArrayLike) -> tuple[Indices, Float64, Float64]:
        """Piece, place in it 0..1, and how far x lies beyond the first or last point."""
        x = doubles(x)
        within = np.clip(x, self.x[0], self.x[-1])
        i = self._piece(within)
        return i, np.asarray((within - self.x[i]) / self._step[i]), np.asarray(x - within)

    def _rate(self, i: Indices, t: Float64) -> Float64:
        return np.asarray((self._b[i] + t * (2.0 * self._c[i] + 3.0 * self._d[i] * t)) / self._step[i])


class Table(Points):
    """Points joined so that the curve rises where they rise and falls where they fall: no overshoot, ever.

    "smooth": cubics with a continuous slope; the slope at a point is the harmonic mean of its neighbours' chords,
    weighted by the pieces' lengths, 0 at a turning point (F. N. Fritsch and J. Butland, SIAM J. Sci. Stat. Comput.
    5 (1984) 300, after F. N. Fritsch and R. E. Carlson, SIAM J. Numer. Anal. 17 (1980) 238).
    "straight": as most instruments interpolate their curves.
    """

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        unit_in: str,
        unit_out: str,
        name: str = "table",
        between: Between = "smooth",
        uncertainties: ArrayLike | None = None,
        valid: tuple[float, float] | None = None,
    ) -> None:
        if between not in ("smooth", "straight"):
            raise CalibrationError(f'{name}: between its points it is "smooth" or "straight", not {between!r}')
        self.between = between
        super().__init__(x, y, unit_in=unit_in, unit_out=unit_out, name=name, uncertainties=uncertainties, valid=valid)

    def _knot_slopes(self, step: Float64, chord: Float64) -> tuple[Float64, Float64]:
        if self.between == "straight" or step.size == 1:
            return chord, chord
        one, other = 2.0 * step[1:] + step[:-1], step[1:] + 2.0 * step[:-1]
        same = chord[1:] * chord[:-1] > 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            inner = np.where(same, (one + other) / (one / chord[:-1] + other / chord[1:]), 0.0)
        m = np.concatenate([
            [_end(step[0], step[1], chord[0], chord[1])], inner, [_end(step[-1], step[-2], chord[-1], chord[-2])]
        ])  # fmt: skip
        return m[:-1], m[1:]


class Spline(Points):
    """The natural cubic spline: continuous curvature, none at the ends. It may overshoot; a `Table` doesn't."""

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        unit_in: str,
        unit_out: str,
        name: str = "spline",
        uncertainties: ArrayLike | None = None,
        valid: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(x, y, unit_in=unit_in, unit_out=unit_out, name=name, uncertainties=uncertainties, valid=valid)

    def _knot_slopes(self, step: Float64, chord: Float64) -> tuple[Float64, Float64]:
        """Continuity of the second derivative at each point: a tridiagonal system for the slopes."""
        n = step.size + 1
        below, diagonal, above, right = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
        diagonal[0] = diagonal[-1] = 2.0
        above[0] = below[-1] = 1.0
        right[0], right[-1] = 3.0 * chord[0], 3.0 * chord[-1]
        below[1:-1], above[1:-1] = step[1:], step[:-1]
        diagonal[1:-1] = 2.0 * (step[1:] + step[:-1])
        right[1:-1] = 3.0 * (step[1:] * chord[:-1] + step[:-1] * chord[1:])
        for i in range(1, n):
            factor = below[i] / diagonal[i - 1]
            diagonal[i] -= factor * above[i - 1]
            right[i] -= factor * right[i - 1]
        m = np.empty(n)
        m[-1] = right[-1] / diagonal[-1]
        for i in range(n - 2, -1, -1):
            m[i] = (right[i] - above[i] * m[i + 1]) / diagonal[i]
        return m[:-1], m[1:]


def _end(step: float, next_step: float, chord: float, next_chord: float) -> float:
    """Slope at an end: of the parabola through three points, held where the curve goes on rising or falling.

    At least a tenth of the chord, so that the curve has an inverse up to its very end.
    """
    slope = ((2.0 * step + next_step) * chord - step * next_chord) / (step + next_step)
    return chord * min(max(slope / chord, 0.1), 3.0) if chord else 0.0
