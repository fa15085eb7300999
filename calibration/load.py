"""Pulling and pressing in the microscope: load cells, displacement sensors, and what the frame takes of both.

A specimen's force is not the sensor's (springs beside it carry some), nor its displacement the actuator's (frame
and sensor give way, and everything drifts with temperature).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .curve import Estimate, Float64, doubles
from .errors import CalibrationError
from .functions.base import Parametric
from .functions.polynomials import Polynomial

EPSILON_0 = 8.8541878188e-12
"""F/m, CODATA 2022."""


def load_cell(
    capacity: float,
    rated: float,
    *,
    zero: float = 0.0,
    span: float = 0.0,
    u_zero: float = 0.0,
    u_rated: float = 0.0,
    unit: str = "N",
    name: str = "load cell",
) -> Polynomial:
    """A bridge's mV/V to force: F = capacity (x - zero) / rated, from -capacity to +capacity.

    rated: mV/V at full load (its certificate's rated output); span: greatest departure from the straight line and
    from its way back, as a share of the capacity (nonlinearity and hysteresis of the data sheet): rectangular.
    """
    if not (capacity > 0.0 and rated != 0.0) or min(u_zero, u_rated, span) < 0.0:
        raise CalibrationError(f"{name}: capacity and rated output can't be 0, nor an uncertainty negative")
    gain = capacity / rated
    ends = sorted((zero - rated, zero + rated))
    # F = c0 + c1 x with c1 = capacity / rated and c0 = -c1 zero: both depend on the rated output.
    to_zero, to_rated = np.array([-gain, 0.0]), np.array([gain * zero / rated, -gain / rated])
    covariance = u_zero**2 * np.outer(to_zero, to_zero) + u_rated**2 * np.outer(to_rated, to_rated)
    covariance[0, 0] += (span * capacity) ** 2 / 3.0
    return Polynomial(
        [-gain * zero, gain],
        valid=(ends[0], ends[1]), unit_in="mV/V", unit_out=unit, name=name, covariance=covariance,
    )  # fmt: skip


class CapacitiveGap(Parametric):
    """A parallel-plate sensor, pF to um: the plates' distance d = eps0 A / (C - C_stray).

    Without its guard ring's correction; the field's bulge at the rim adds to the stray capacitance and to its
    change. Displacement is the difference of two distances.
    """

    def __init__(
        self,
        area: float,
        stray: float = 0.0,
        *,
        valid: tuple[float, float],
        permittivity: float = 1.0,
        name: str = "capacitive sensor",
        covariance: ArrayLike | None = None,
    ) -> None:
        """area: mm^2; stray: pF; valid: pF, above the stray capacitance; covariance: of (area, stray)."""
        super().__init__([area, stray], valid=valid, unit_in="pF", unit_out="um", name=name, covariance=covariance)
        if not (area > 0.0 and permittivity >= 1.0 and self.valid[0] > stray):
            raise CalibrationError(
                f"{name}: area above 0, permittivity 1 or more, valid range above the stray {stray:g} pF"
            )
        self._k = EPSILON_0 * permittivity * 1e12  # pF um / mm^2

    def values(self, x: ArrayLike) -> Float64:
        area, stray = self.coefficients
        x = doubles(x)
        return np.asarray(np.divide(self._k * area, x - stray, out=np.full(x.shape, np.nan), where=x > stray))

    def slopes(self, x: ArrayLike) -> Float64:
        return np.asarray(-self.values(x) / (doubles(x) - self.coefficients[1]))

    def solve(self, y: Float64) -> Float64:
        area, stray = self.coefficients
        return np.asarray(np.clip(stray + self._k * area / y, *self.valid))

    def gradients(self, x: ArrayLike) -> Float64:
        d = self.values(x)
        return np.stack([d / self.coefficients[0], d / (doubles(x) - self.coefficients[1])], axis=-1)


def specimen_displacement(
    displacement: ArrayLike,
    force: ArrayLike,
    *,
    compliance: float,
    u_compliance: float = 0.0,
    u_displacement: ArrayLike = 0.0,
    u_force: ArrayLike = 0.0,
    drift: float = 0.0,
    u_drift: float = 0.0,
    seconds: ArrayLike = 0.0,
) -> Estimate:
    """The specimen's elongation, um: displacement less compliance times force (um, um/N, N) less drift times time.

    compliance: of frame, grips and load cell in series, from a run on something stiff; drift: um/s, from a hold at
    constant force; seconds: since the start. As for indenters: ISO 14577-1, annexes on frame compliance.
    """
    d, f = doubles(displacement), doubles(force)
    t = doubles(seconds)
    u_d, u_f = doubles(u_displacement), doubles(u_force)
    if min(compliance, u_compliance, u_drift) < 0.0 or (u_d < 0.0).any() or (u_f < 0.0).any():
        raise CalibrationError("displacement: compliance and uncertainties can't be negative")
    spread = np.sqrt(u_d**2 + (f * u_compliance) ** 2 + (compliance * u_f) ** 2 + (t * u_drift) ** 2)
    value = np.asarray(d - compliance * f - drift * t)
    return Estimate(value, np.broadcast_to(spread, value.shape), np.zeros(value.shape, bool), "um")


def specimen_force(
    force: ArrayLike,
    displacement: ArrayLike,
    *,
    stiffness: float,
    u_stiffness: float = 0.0,
    u_force: ArrayLike = 0.0,
    u_displacement: ArrayLike = 0.0,
) -> Estimate:
    """What the specimen of a push-to-pull device carries, uN: force less the springs beside it, k times elongation.

    force: uN; stiffness: of the device without specimen (N/m, which is uN/um): push an empty one; displacement: um.
    """
    f, d = doubles(force), doubles(displacement)
    u_f, u_d = doubles(u_force), doubles(u_displacement)
    if min(stiffness, u_stiffness) < 0.0 or (u_d < 0.0).any() or (u_f < 0.0).any():
        raise CalibrationError("force: stiffness and uncertainties can't be negative")
    value = np.asarray(f - stiffness * d)
    spread = np.sqrt(u_f**2 + (d * u_stiffness) ** 2 + (stiffness * u_d) ** 2)
    return Estimate(value, np.broadcast_to(spread, value.shape), np.zeros(value.shape, bool), "uN")
