"""Curves made of curves: over logarithms, and of one curve for each part of a range."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from ..curve import Curve, Estimate, Float64, Outside, doubles
from ..errors import CalibrationError, NotMonotone
from .base import ends

LN10 = float(np.log(10.0))


class Logarithmic(Curve):
    """A curve one of whose axes is a decimal logarithm: f(log10 x), or 10^f(x). What has no logarithm gives NaN.

    Thermometers are described over log10 of their resistance, wide-range gauges give log10 of the pressure.
    """

    def __init__(self, curve: Curve, *, axis: Literal["x", "y"], unit: str, name: str | None = None) -> None:
        """axis: whose values the curve has as logarithms; unit: theirs without the logarithm."""
        if axis not in ("x", "y"):
            raise CalibrationError(f'{curve.name}: the logarithmic axis is "x" or "y", not {axis!r}')
        self.curve, self.axis = curve, axis
        self.name = name or curve.name
        self.unit_in, self.unit_out = (unit, curve.unit_out) if axis == "x" else (curve.unit_in, unit)
        self.valid = self._outer(curve.valid)

    @property
    def invertible(self) -> tuple[float, float]:
        return self._outer(self.curve.invertible)

    def values(self, x: ArrayLike) -> Float64:
        if self.axis == "x":
            return self.curve.values(self._inner(x))
        return np.asarray(10.0 ** self.curve.values(x))

    def slopes(self, x: ArrayLike) -> Float64:
        x = doubles(x)
        if self.axis == "x":
            return np.asarray(self.curve.slopes(self._inner(x)) / (x * LN10))
        return np.asarray(self.values(x) * LN10 * self.curve.slopes(x))

    def own(self, x: ArrayLike) -> Float64:
        if self.axis == "x":
            return self.curve.own(self._inner(x))
        return np.asarray(self.values(x) * LN10 * self.curve.own(x))

    def dof(self, x: ArrayLike) -> Float64 | float:
        return self.curve.dof(self._inner(x) if self.axis == "x" else x)

    def solve(self, y: Float64) -> Float64:
        if self.axis == "x":
            return np.clip(10.0 ** self.curve.solve(y), *self.valid)
        low, high = self.curve.invertible
        inner = self.curve.values(np.array([low, high]))
        return self.curve.solve(np.clip(_log10(y), inner.min(), inner.max()))

    def _inner(self, x: ArrayLike) -> Float64:
        """log10 x, and exactly the curve's own end at an end: rounding must not leave its range."""
        x = doubles(x)
        inner = np.where(x == self.valid[0], self.curve.valid[0], _log10(x))
        return np.asarray(np.where(x == self.valid[1], self.curve.valid[1], inner))

    def _outer(self, inner: tuple[float, float]) -> tuple[float, float]:
        return (10.0 ** inner[0], 10.0 ** inner[1]) if self.axis == "x" else inner


class Inverse(Curve):
    """The inverse of a curve as a curve: for readings that are the given curve's results."""

    def __init__(self, curve: Curve, *, name: str | None = None) -> None:
        """Raises `NotMonotone` if there is none."""
        self.curve, self.name = curve, name or curve.name
        self.unit_in, self.unit_out = curve.unit_out, curve.unit_in
        reach = curve.values(np.array(curve.invertible))
        self.valid = ends(self.name, (float(reach.min()), float(reach.max())))

    def __call__(self, x: ArrayLike, uncertainty: ArrayLike = 0.0, *, outside: Outside = "refuse") -> Estimate:
        return self.curve.inverse(x, uncertainty, outside=outside)  # solved once instead of three times

    def values(self, x: ArrayLike) -> Float64:
        """Prolonged by its tangents beyond the curve's ends."""
        return self.curve.inverse(x, outside="mark").value

    def slopes(self, x: ArrayLike) -> Float64:
        return np.asarray(1.0 / self.curve.slopes(self._within(x)))

    def own(self, x: ArrayLike) -> Float64:
        at = self._within(x)
        return np.asarray(self.curve.own(at) / np.abs(self.curve.slopes(at)))

    def dof(self, x: ArrayLike) -> Float64 | float:
        return self.curve.dof(self._within(x))

    def solve(self, y: Float64) -> Float64:
        return self.curve.values(y)

    def _within(self, x: ArrayLike) -> Float64:
        return self.curve.solve(np.clip(doubles(x), *self.valid))


class Pieces(Curve):
    """One curve for each part of a range, each from its lower end on; neighbours meet where they change over."""

    def __init__(self, curves: Sequence[Curve], *, step: float, name: str = "pieces") -> None:
        """curves: of the same units, in any order; overlaps belong to the upper one.

        step: by how much neighbours may differ where they meet, in `unit_out`; what differs more, or leaves a
        gap, is a `CalibrationError`.
        """
        if not curves:
            raise CalibrationError(f"{name}: it has no curves")
        self.name, self.curves = name, tuple(sorted(curves, key=lambda curve: curve.valid))
        self.unit_in, self.unit_out = self.curves[0].unit_in, self.curves[0].unit_out
        for one, other in zip(self.curves, self.curves[1:], strict=False):
            if (other.unit_in, other.unit_out) != (self.unit_in, self.unit_out):
                raise CalibrationError(
                    f"{name}: one goes from {self.unit_in} to {self.unit_out}, "
                    f"another from {other.unit_in} to {other.unit_out}"
                )
            at = other.valid[0]
            if at > one.valid[1]:
                raise CalibrationError(f"{name}: nothing is known between {one.valid[1]:g} and {at:g} {self.unit_in}")
            jump = float(other.values(at) - one.values(at))
            if not abs(jump) <= step:
                raise CalibrationError(f"{name}: it jumps by {jump:.3g} {self.unit_out} at {at:g} {self.unit_in}")
        self._starts = np.array([curve.valid[0] for curve in self.curves[1:]])
        self.valid = ends(name, (self.curves[0].valid[0], max(curve.valid[1] for curve in self.curves)))

    @property
    def invertible(self) -> tuple[float, float]:
        """The whole range; a y within a jump belongs to the place of the jump."""
        for curve in self.curves:
            _ = curve.invertible
        rises = [float(np.diff(curve.values(np.array(curve.valid)))[0]) > 0.0 for curve in self.curves]
        if any(rises) != all(rises):
            raise NotMonotone(f"{self.name}: it can't be inverted, it rises in one part and falls in another")
        return self.valid

    def values(self, x: ArrayLike) -> Float64:
        return self._each(x, lambda curve, part: curve.values(part))

    def slopes(self, x: ArrayLike) -> Float64:
        return self._each(x, lambda curve, part: curve.slopes(part))

    def own(self, x: ArrayLike) -> Float64:
        return self._each(x, lambda curve, part: curve.own(part))

    def dof(self, x: ArrayLike) -> Float64 | float:
        return self._each(x, lambda curve, part: np.broadcast_to(curve.dof(part), part.shape))

    def solve(self, y: Float64) -> Float64:
        """Each y in the piece whose values it lies among; in a jump, at the jump."""
        y = doubles(y)
        marks = np.array([self.valid[0], *self._starts, self.valid[1]])
        first = np.array([float(curve.values(at)) for curve, at in zip(self.curves, marks, strict=False)])
        last = np.array([float(curve.values(at)) for curve, at in zip(self.curves, marks[1:], strict=True)])
        sign = 1.0 if last[-1] > first[0] else -1.0
        which = np.searchsorted(sign * first[1:], sign * y, "right")
        out = np.empty(y.shape)
        for i, curve in enumerate(self.curves):
            mine = which == i
            if mine.any():
                ends_y = sorted((first[i], last[i]))
                out[mine] = np.clip(curve.solve(np.clip(y[mine], *ends_y)), marks[i], marks[i + 1])
        return out

    def _each(self, x: ArrayLike, of: Callable[[Curve, Float64], Float64]) -> Float64:
        x = doubles(x)
        which = np.searchsorted(self._starts, x, "right")
        out = np.empty(x.shape)
        for i, curve in enumerate(self.curves):
            mine = which == i
            if mine.any():
                out[mine] = of(curve, x[mine])
        return out


def _log10(x: ArrayLike) -> Float64:
    x = doubles(x)
    return np.asarray(np.log10(x, out=np.full(x.shape, np.nan), where=x > 0.0))
