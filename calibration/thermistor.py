"""Thermistors: resistance to temperature after Steinhart and Hart, or from a resistance and a beta.

I. S. Steinhart and S. R. Hart, "Calibration curves for thermistors", Deep-Sea Research 15 (1968) 497-503:
1/T = A + B ln R + C (ln R)^3 with T in kelvin and R in ohms. The curve runs from ohms to degC; its inverse gives
the resistance at a temperature, of which the cubic has exactly one as long as B and C are positive.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .curve import Float64, doubles
from .errors import CalibrationError, NotMonotone
from .functions.base import Parametric

ZERO = 273.15
"""K at 0 degC."""


class Thermistor(Parametric):
    """Ohms to degC by 1/T = A + B L + D L^2 + C L^3, L = ln R; D is nearly always 0."""

    def __init__(
        self,
        a: float,
        b: float,
        c: float,
        *,
        valid: tuple[float, float],
        d: float = 0.0,
        name: str = "thermistor",
        covariance: ArrayLike | None = None,
    ) -> None:
        """valid: least and greatest ohms; covariance: of a, b, c in their units, 1/K (d is taken as exact)."""
        super().__init__([a, b, c], valid=valid, unit_in="Ohm", unit_out="degC", name=name, covariance=covariance)
        if not np.isfinite(d):
            raise CalibrationError(f"{name}: d must be a number")
        self.d = d
        if self.valid[0] <= 0.0:
            raise CalibrationError(f"{name}: its valid range must lie above 0 Ohm")
        if np.any(self._reciprocal(np.geomspace(*self.valid, 64)) <= 0.0):
            raise CalibrationError(
                f"{name}: these coefficients give no temperature in {valid[0]:g} to {valid[1]:g} Ohm"
            )

    @classmethod
    def beta(cls, resistance: float, beta: float, *, valid: tuple[float, float], at: float = 25.0) -> Thermistor:
        """From a resistance (Ohm) at a temperature (degC) and the data sheet's beta (K): R = R0 exp(b/T - b/T0).

        Coarse: a beta holds between the two temperatures that it was measured at (25/85 degC, 25/50 degC) and is
        some kelvin off 100 K away.
        """
        if not (resistance > 0.0 and beta > 0.0 and at > -ZERO):
            raise CalibrationError("thermistor: resistance and beta must be above 0, and the temperature above 0 K")
        return cls(1.0 / (at + ZERO) - np.log(resistance) / beta, 1.0 / beta, 0.0, valid=valid)

    @classmethod
    def through(
        cls, points: ArrayLike, *, valid: tuple[float, float] | None = None, name: str = "thermistor"
    ) -> Thermistor:
        """Exactly through three points (Ohm, degC); valid from the least to the greatest resistance if None."""
        found = doubles(points)
        if found.shape != (3, 2) or not np.isfinite(found).all() or (found[:, 0] <= 0.0).any():
            raise CalibrationError(f"{name}: three pairs of a resistance above 0 Ohm and a temperature are needed")
        log = np.log(found[:, 0])
        if np.unique(log).size < 3 or (found[:, 1] <= -ZERO).any():
            raise CalibrationError(f"{name}: the three resistances must differ and the temperatures lie above 0 K")
        a, b, c = np.linalg.solve(np.stack([np.ones(3), log, log**3], axis=1), 1.0 / (found[:, 1] + ZERO))
        return cls(a, b, c, valid=valid or (float(found[:, 0].min()), float(found[:, 0].max())), name=name)

    @property
    def invertible(self) -> tuple[float, float]:
        """The valid range; `NotMonotone` if d(1/T)/d(ln R) = B + 2 D L + 3 C L^2 changes its sign in it."""
        low, high = np.log(self.valid)
        c = self.coefficients[2]
        vertex = -self.d / (3.0 * c) if c else low
        rates = [self._rate(at) for at in (low, high, min(max(vertex, low), high))]
        if min(rates) <= 0.0 <= max(rates):
            raise NotMonotone(f"{self.name}: it can't be inverted, it turns back in its valid range; narrow that")
        return self.valid

    def values(self, x: ArrayLike) -> Float64:
        return np.asarray(1.0 / self._reciprocal(x) - ZERO)

    def slopes(self, x: ArrayLike) -> Float64:
        x = doubles(x)
        return np.asarray(-self._rate(_log(x)) / (x * self._reciprocal(x) ** 2))

    def gradients(self, x: ArrayLike) -> Float64:
        log = _log(x)
        square = self._reciprocal(x)[..., None] ** 2
        return np.asarray(-np.stack([np.ones_like(log), log, log**3], axis=-1) / square)

    def _reciprocal(self, x: ArrayLike) -> Float64:
        a, b, c = self.coefficients
        log = _log(x)
        return np.asarray(a + log * (b + log * (self.d + log * c)))

    def _rate(self, log: ArrayLike) -> Float64:
        _, b, c = self.coefficients
        log = doubles(log)
        return np.asarray(b + log * (2.0 * self.d + 3.0 * c * log))


def _log(x: ArrayLike) -> Float64:
    x = doubles(x)
    return np.asarray(np.log(x, out=np.full(x.shape, np.nan), where=x > 0.0))
