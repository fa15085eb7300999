"""A calibration curve: from one quantity to another, with what is known of its error and where it holds.

Whatever turns one number into another is a `Curve`: a thermocouple, a platinum resistor, a gas factor, a fit.
It is evaluated on arrays of any shape; value and standard uncertainty come back together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import CalibrationError, NotMonotone, OutOfRange

Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
Outside = Literal["refuse", "mark"]
"""What becomes of values beyond the valid range: an `OutOfRange`, or an estimate marked `uncertain`."""

STEPS = 120
"""Bisections that bring any range of doubles down to one, each after a Newton's step in vain; mostly five do."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Values with their standard uncertainties (k = 1), all arrays of one shape; NaN where nothing is known."""

    value: Float64
    uncertainty: Float64
    uncertain: Bools
    """Where the value is an extrapolation beyond the valid range and its uncertainty says too little."""
    unit: str
    dof: Float64 | float = inf
    """Degrees of freedom of the uncertainties, effective ones: of each, or of all."""

    def __post_init__(self) -> None:
        parts = self.value, self.uncertainty, self.uncertain
        if len({np.shape(part) for part in parts}) > 1:  # one value with many uncertainties, or the other way round
            for name, part in zip(("value", "uncertainty", "uncertain"), np.broadcast_arrays(*parts), strict=True):
                object.__setattr__(self, name, part)

    def expanded(self, level: float = 0.95) -> Float64:
        """Half-width of the interval in which the true value lies at this level of confidence: k by Student's t."""
        from .uncertainty.quantile import student

        return np.asarray(student(level, self.dof) * self.uncertainty)

    def __str__(self) -> str:
        if self.value.ndim:
            return f"{self.value.size} values in {self.unit}"
        doubt = " (uncertain: beyond the valid range)" if self.uncertain else ""
        return f"{float(self.value):.6g} +/- {float(self.uncertainty):.2g} {self.unit}{doubt}"


class Curve(ABC):
    """y = f(x) on a range. A subclass gives `values` and `slopes`, and `own` if the curve itself is not exact."""

    name: str
    """What it is, for messages: ``type K``."""
    unit_in: str
    unit_out: str
    valid: tuple[float, float]
    """Least and greatest x, in `unit_in`, both included."""

    @property
    def invertible(self) -> tuple[float, float]:
        """Where f rises or falls throughout and so has an inverse: the valid range unless a subclass narrows it."""
        return self.valid

    @abstractmethod
    def values(self, x: ArrayLike) -> Float64:
        """f(x), whether x is in range or not; the shape of x."""

    @abstractmethod
    def slopes(self, x: ArrayLike) -> Float64:
        """df/dx."""

    def own(self, x: ArrayLike) -> Float64:
        """Standard uncertainty of f itself at x, in `unit_out`: 0 unless a subclass knows better."""
        return np.zeros(np.shape(x))

    def dof(self, x: ArrayLike) -> Float64 | float:
        """Degrees of freedom of `own` at x: infinite unless a subclass knows better."""
        return inf

    def __call__(self, x: ArrayLike, uncertainty: ArrayLike = 0.0, *, outside: Outside = "refuse") -> Estimate:
        """f(x) for x with a standard uncertainty, in `unit_in`.

        To first order (GUM 5.1.2) u(y)^2 = (f'(x) u(x))^2 + own(x)^2: x and the curve are independent, and the
        uncertainty of x is taken as exact. Raises `OutOfRange` unless `outside` is "mark".
        """
        x = doubles(x)
        beyond = self._beyond(x, self.valid, self.unit_in, outside)
        own = self.own(x)
        spread = np.hypot(self.slopes(x) * self._sigma(uncertainty), own)
        return Estimate(self.values(x), spread, beyond, self.unit_out, effective(self.dof(x), own, spread))

    def inverse(self, y: ArrayLike, uncertainty: ArrayLike = 0.0, *, outside: Outside = "refuse") -> Estimate:
        """The x in the invertible range at which f(x) = y; u(x) = sqrt(u(y)^2 + own(x)^2) / |f'(x)|.

        A y beyond the curve's ends is `OutOfRange`; with "mark" the curve is prolonged by its tangent there, and ends
        where that is level, with an infinite uncertainty.
        Raises `NotMonotone` where f is not.
        """
        y = doubles(y)
        low, high = self.invertible
        ends = self.values(np.array([low, high]))
        reach = (float(ends.min()), float(ends.max()))
        beyond = self._beyond(y, reach, self.unit_out, outside)
        inside = np.clip(y, *reach)
        x = self.solve(inside)
        slope = self.slopes(x)
        if np.any(slope * (ends[1] - ends[0]) < 0.0):
            raise NotMonotone(
                f"{self.name}: it can't be inverted, it turns back between {low:g} and {high:g} {self.unit_in}"
            )
        own = self.own(x)
        whole = np.hypot(self._sigma(uncertainty), own)
        dof = effective(self.dof(x), own, whole)
        with np.errstate(divide="ignore", invalid="ignore"):  # where the curve ends level, as x^2 at 0
            along = np.where((y == inside) | (slope == 0.0), 0.0, (y - inside) / slope)
            spread = np.where(whole == 0.0, 0.0, whole / np.abs(slope))
        return Estimate(x + along, spread, beyond, self.unit_in, dof)

    def solve(self, y: Float64) -> Float64:
        """x with f(x) = y for y within the curve's reach: Newton's steps, in a bracket.

        The bracket is halved wherever a step would leave it, or is not at least half as long as the one before: where
        f jumps or kinks, Newton's steps would go back and forth for ever.
        """
        low, high = (np.full(np.shape(y), end) for end in self.invertible)
        rising = float(np.diff(self.values(np.array(self.invertible)))[0]) > 0.0
        x: Float64 = 0.5 * (low + high)
        before = high - low
        for _ in range(STEPS):
            miss = self.values(x) - y
            above = (miss > 0.0) if rising else (miss < 0.0)
            high, low = np.where(above, x, high), np.where(above, low, x)
            with np.errstate(divide="ignore", invalid="ignore"):
                step = x - np.where(miss == 0.0, 0.0, miss / self.slopes(x))
            good = (step >= low) & (step <= high) & (np.abs(step - x) <= 0.5 * before)
            new = np.where(good, step, 0.5 * (low + high))
            moved = np.abs(new - x)
            before = np.where(good, moved, high - low)
            x = np.where(np.isnan(y), np.nan, new)
            if not np.any(moved > 4.0 * np.spacing(np.abs(new)) + 1e-300):
                break
        return x

    def _beyond(self, x: Float64, ends: tuple[float, float], unit: str, outside: Outside) -> Bools:
        if outside not in ("refuse", "mark"):
            raise CalibrationError(f'outside is "refuse" or "mark", not {outside!r}')
        low, high = ends
        beyond = (x < low) | (x > high)
        if outside == "refuse" and np.any(beyond):
            worst = x[beyond][np.argmax(np.maximum(low - x[beyond], x[beyond] - high))]
            raise OutOfRange(
                f"{self.name}: {int(beyond.sum())} of {x.size} values lie outside {low:g} to {high:g} {unit} (the "
                f'furthest is {worst:g}); leave them out, or say outside="mark" to have them marked uncertain'
            )
        return np.asarray(beyond)

    def _sigma(self, uncertainty: ArrayLike) -> Float64:
        sigma = doubles(uncertainty)
        if np.any(sigma < 0.0):
            raise CalibrationError(f"{self.name}: a standard uncertainty can't be negative")
        return sigma


def doubles(given: ArrayLike) -> Float64:
    """What callers give, as doubles; NaN where a mask says that nothing is known. Raises `CalibrationError`."""
    try:
        if isinstance(given, np.ma.MaskedArray):
            return np.asarray(np.ma.filled(given.astype(np.float64), np.nan))
        return np.asarray(given, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise CalibrationError(f"numbers are needed here, not {given!r}") from None


def effective(dof: Float64 | float, part: Float64, whole: Float64) -> Float64 | float:
    """Degrees of freedom of the uncertainty `whole`, of which `part` has `dof` and all else has no doubt.

    Welch's and Satterthwaite's formula (GUM G.4.1).
    """
    if np.all(np.isinf(dof)):
        return inf
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(part > 0.0, dof * (whole / part) ** 4, inf)
