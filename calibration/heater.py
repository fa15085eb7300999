"""The heater on a MEMS chip: its resistance is its thermometer.

R(T) = R0 (1 + a (T - T0) + b (T - T0)^2 + c (T - T0)^3): linear for most metals over a hundred kelvin, of second or
third order over the thousand that such chips reach. The temperature is that of the heater's metal, averaged over
where the voltage is sensed, and not that of the specimen: see `specimen`.

A heater that is measured by four wires needs no more than its voltage and its current; with two wires the leads
are in series with it. In an oven calibration the current that senses also warms: `at_no_power` takes that out.
"""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import ArrayLike

from .curve import Estimate, Float64, doubles
from .errors import CalibrationError, FitError
from .functions.base import Parametric, one_way

ROOM = 20.0
"""degC: the usual reference temperature of a resistance and its coefficients."""


class Heater(Parametric):
    """degC to ohm; the inverse gives the temperature (as a curve of its own: `functions.Inverse`)."""

    def __init__(
        self,
        resistance: float,
        alpha: float,
        beta: float = 0.0,
        gamma: float = 0.0,
        *,
        valid: tuple[float, float],
        reference: float = ROOM,
        name: str = "heater",
        covariance: ArrayLike | None = None,
    ) -> None:
        """resistance: Ohm at `reference` (degC); alpha, beta, gamma: 1/K, 1/K^2, 1/K^3; valid: in degC.

        covariance: of (resistance, alpha, beta, gamma) in their units, 4 x 4.
        """
        super().__init__(
            [resistance, alpha, beta, gamma],
            valid=valid, unit_in="degC", unit_out="Ohm", name=name, covariance=covariance,
        )  # fmt: skip
        if resistance <= 0.0 or not np.isfinite(reference):
            raise CalibrationError(f"{name}: its resistance must be above 0 Ohm, at a reference temperature")
        self.reference = reference
        if self.values(np.linspace(*self.valid, 65)).min() <= 0.0:
            raise CalibrationError(f"{name}: these coefficients make its resistance vanish within {valid} degC")

    @property
    def invertible(self) -> tuple[float, float]:
        _, a, b, c = self.coefficients
        turns = np.roots(np.array([3.0 * c, 2.0 * b, a]))
        return one_way(self, self.reference + turns[np.abs(turns.imag) == 0.0].real)

    def values(self, x: ArrayLike) -> Float64:
        r, a, b, c = self.coefficients
        t = doubles(x) - self.reference
        return np.asarray(r * (1.0 + t * (a + t * (b + t * c))))

    def slopes(self, x: ArrayLike) -> Float64:
        r, a, b, c = self.coefficients
        t = doubles(x) - self.reference
        return np.asarray(r * (a + t * (2.0 * b + t * 3.0 * c)))

    def gradients(self, x: ArrayLike) -> Float64:
        r = self.coefficients[0]
        t = doubles(x) - self.reference
        return np.stack([self.values(x) / r, r * t, r * t**2, r * t**3], axis=-1)


def four_wire(
    voltage: ArrayLike,
    current: ArrayLike,
    *,
    u_voltage: ArrayLike = 0.0,
    u_current: ArrayLike = 0.0,
    reversed_voltage: ArrayLike | None = None,
    reversed_current: ArrayLike | None = None,
) -> Estimate:
    """Resistance V/I, ohm, from volts and amperes sensed by separate wires.

    With the readings under the reversed current it is (V+ - V-) / (I+ - I-): thermoelectric voltages and offsets,
    the same both times, drop out. The uncertainties are those of one reading; both readings' are independent.
    Where no current flows the resistance is NaN.
    """
    v, i = doubles(voltage), doubles(current)
    u_v, u_i = doubles(u_voltage), doubles(u_current)
    if (reversed_voltage is None) != (reversed_current is None):
        raise CalibrationError("four-wire: of the reversed readings both voltage and current are needed")
    if (u_v < 0.0).any() or (u_i < 0.0).any():
        raise CalibrationError("four-wire: a standard uncertainty can't be negative")
    if reversed_voltage is not None and reversed_current is not None:
        v, i = v - doubles(reversed_voltage), i - doubles(reversed_current)
        u_v, u_i = np.sqrt(2.0) * u_v, np.sqrt(2.0) * u_i
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where(i != 0.0, v / i, np.nan)
        spread = np.hypot(u_v, r * u_i) / np.abs(i)
    return Estimate(r, np.where(i != 0.0, spread, np.nan), np.zeros(r.shape, bool), "Ohm")


def two_wire(
    voltage: ArrayLike,
    current: ArrayLike,
    leads: float,
    *,
    u_voltage: ArrayLike = 0.0,
    u_current: ArrayLike = 0.0,
    u_leads: float = 0.0,
) -> Estimate:
    """V/I less the resistance of both leads and contacts, ohm. u_leads is common to all readings, and must say how
    much the leads change when they warm; it usually is the larger part."""
    if not leads >= 0.0 or not u_leads >= 0.0:
        raise CalibrationError("two-wire: the leads' resistance and its uncertainty can't be negative")
    whole = four_wire(voltage, current, u_voltage=u_voltage, u_current=u_current)
    return Estimate(np.asarray(whole.value - leads), np.hypot(whole.uncertainty, u_leads), whole.uncertain, whole.unit)


def at_no_power(
    resistance: ArrayLike, power: ArrayLike, uncertainty: ArrayLike | None = None
) -> tuple[Estimate, Estimate]:
    """Resistance without self-heating, ohm, and its rise with the power, ohm/W: a straight line through both.

    resistance: Ohm at each sensing power (W), in an oven at one temperature; uncertainty: of each resistance, known
    beforehand; if None, it is learned from the scatter, for which three powers or more are needed. Divide the rise
    by R'(T) for the thermal resistance in K/W. The powers must be small: the rise is taken as proportional.
    Raises `FitError`.
    """
    r, p = doubles(resistance), doubles(power)
    if r.ndim != 1 or r.shape != p.shape or np.unique(p).size < (2 if uncertainty is not None else 3):
        raise FitError("self-heating: as many resistances as powers are needed, at two powers or more (three, if the "
                       "uncertainty of the resistances is not given)")  # fmt: skip
    sigma = np.ones_like(r) if uncertainty is None else np.broadcast_to(doubles(uncertainty), r.shape)
    if not (np.isfinite(r).all() and np.isfinite(p).all() and (p >= 0.0).all() and (sigma > 0.0).all()):
        raise FitError("self-heating: resistances must be numbers, powers 0 or more, uncertainties above 0")
    scale = float(p.max())
    design = np.stack([np.ones_like(p), p / scale], axis=1) / sigma[:, None]
    covariance = np.linalg.inv(design.T @ design)
    found = covariance @ design.T @ (r / sigma)
    if uncertainty is None:
        misses = r - found[0] - found[1] * p / scale
        covariance = covariance * float(misses @ misses) / (r.size - 2)
    spread = np.sqrt(np.diag(covariance))
    no, dof = np.zeros((), bool), inf if uncertainty is not None else r.size - 2.0
    return (
        Estimate(np.asarray(found[0]), np.asarray(spread[0]), no, "Ohm", dof),
        Estimate(np.asarray(found[1] / scale), np.asarray(spread[1] / scale), no, "Ohm/W", dof),
    )
