"""What curves of coefficients share: checked arguments, and an uncertainty that follows from a covariance."""

from __future__ import annotations

from abc import abstractmethod
from math import inf

import numpy as np
from numpy.typing import ArrayLike

from ..curve import Bools, Curve, Float64, doubles
from ..errors import CalibrationError, NotMonotone

NODES = 65
"""Points of the table from which the solution starts."""
WIDE = 50.0
"""A range whose ends differ by this factor has its points by ratio."""
NEWTON = 6
"""Steps; from the table's seed four reach a double's precision on any smooth curve."""


class Parametric(Curve):
    """A curve with coefficients and, if a fit gave them, their covariance matrix."""

    coefficients: Float64
    covariance: Float64 | None
    degrees: float = inf
    """Degrees of freedom of the covariance: finite where a fit had to learn the scatter from its own points."""

    def __init__(
        self,
        coefficients: ArrayLike,
        *,
        valid: tuple[float, float],
        unit_in: str,
        unit_out: str,
        name: str,
        covariance: ArrayLike | None = None,
    ) -> None:
        self.name, self.unit_in, self.unit_out = name, unit_in, unit_out
        self.valid = ends(name, valid)
        self.coefficients = numbers(name, "coefficients", coefficients)
        self.covariance = None if covariance is None else checked_covariance(name, covariance, self.coefficients.size)

    @abstractmethod
    def gradients(self, x: ArrayLike) -> Float64:
        """df/dc for each coefficient c, in their order, along a last axis added to the shape of x."""

    def own(self, x: ArrayLike) -> Float64:
        """sqrt(g' C g) of the gradients g and the covariance C (GUM 5.2.2, to first order); 0 without covariance."""
        if self.covariance is None:
            return super().own(x)
        g = self.gradients(x)
        variance = np.einsum("...i,ij,...j->...", g, self.covariance, g)
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))

    def dof(self, x: ArrayLike) -> Float64 | float:
        return self.degrees

    def solve(self, y: Float64) -> Float64:
        """Newton's steps from a coarse table of the curve."""
        y = doubles(y)
        low, high = self.invertible
        wide = low > 0.0 and high > WIDE * low
        nodes = np.geomspace(low, high, NODES) if wide else np.linspace(low, high, NODES)
        nodes[0], nodes[-1] = low, high
        table = self.values(nodes)
        if table[0] > table[-1]:
            nodes, table = nodes[::-1], table[::-1]
        return polished(self, np.asarray(np.interp(y, table, nodes)), y)


def polished(curve: Curve, x: Float64, y: Float64) -> Float64:
    """Newton's steps from x, which is about right, to f(x) = y; what they miss is left to the slower, sure way."""
    low, high = curve.invertible
    late: Bools = np.ones(y.shape, bool)
    for _ in range(NEWTON):
        miss = curve.values(x) - y
        with np.errstate(divide="ignore", invalid="ignore"):  # there already, where the curve may well be level
            new = np.clip(x - np.where(miss == 0.0, 0.0, miss / curve.slopes(x)), low, high)
        late = np.abs(new - x) > 4.0 * np.spacing(np.abs(new)) + 1e-15 * (high - low)
        x = np.asarray(new)
        if not late.any():
            return x
    return np.where(late, Curve.solve(curve, np.where(late, y, curve.values(low))), x)


def numbers(name: str, what: str, values: ArrayLike, at_least: int = 1) -> Float64:
    """A read-only copy of a list of finite numbers. Raises `CalibrationError`."""
    try:
        found = np.array(doubles(values))
    except (TypeError, ValueError, OverflowError):
        raise CalibrationError(f"{name}: its {what} must be numbers, not {values!r}") from None
    if found.ndim != 1 or found.size < at_least:
        raise CalibrationError(f"{name}: its {what} must be a list of at least {at_least} numbers")
    if not np.isfinite(found).all():
        raise CalibrationError(f"{name}: its {what} must be finite numbers")
    found.flags.writeable = False
    return found


def ends(name: str, valid: tuple[float, float]) -> tuple[float, float]:
    """The ends of a range, checked. Raises `CalibrationError`."""
    low, high = numbers(name, "valid range", valid, 2)[:2]
    if len(valid) != 2 or not low < high:
        raise CalibrationError(f"{name}: its valid range must be a lower and a higher number, not {tuple(valid)}")
    return float(low), float(high)


def one_way(curve: Curve, turns: Float64) -> tuple[float, float]:
    """The valid range if the curve rises or falls throughout. Raises `NotMonotone`.

    turns: where its slope may change sign, in any order; those beyond the range don't count.
    """
    low, high = curve.valid
    marks = np.unique(np.concatenate([[low], turns[(turns > low) & (turns < high)], [high]]))
    slopes = curve.slopes(0.5 * (marks[1:] + marks[:-1]))
    if np.any(slopes > 0.0) == np.any(slopes < 0.0):  # both, or neither: it turns back, or stands still
        where = marks[1:-1]
        near = f"at {where[0]:g} {curve.unit_in}" if where.size else "throughout"
        how = "turns back" if np.any(slopes) else "is flat"
        raise NotMonotone(f"{curve.name}: it can't be inverted, it {how} {near}; narrow its valid range")
    return low, high


def checked_covariance(name: str, covariance: ArrayLike, size: int) -> Float64:
    """A read-only covariance matrix. Raises `CalibrationError`."""
    try:
        found = np.array(doubles(covariance))
    except (TypeError, ValueError, OverflowError):
        raise CalibrationError(f"{name}: its covariance must be a matrix of numbers") from None
    if found.shape != (size, size):
        raise CalibrationError(f"{name}: its covariance must be {size} x {size}, one row for each coefficient")
    spread = np.sqrt(np.abs(np.diag(found)))
    scale = np.outer(spread, spread)
    if not np.isfinite(found).all() or np.any(np.abs(found - found.T) > 1e-9 * scale + 1e-300):
        raise CalibrationError(f"{name}: its covariance must be finite and symmetric")
    unit = np.divide(found, scale, out=np.zeros_like(found), where=scale > 0.0)
    if np.any(np.diag(found) < 0.0) or np.any(np.linalg.eigvalsh(unit) < -1e-8 * size):
        raise CalibrationError(f"{name}: its covariance is none: it gives some sum of coefficients a negative variance")
    found.flags.writeable = False
    return found
