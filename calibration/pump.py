"""Liquid pumps: what a syringe delivers by its bore, and what a balance says that it delivered.

The gravimetric method is that of ISO 8655-6: the mass of water delivered, in air, to a volume by the density of
water and the buoyancy in air of water and weights. Density of water: M. Tanaka et al., Metrologia 38 (2001) 301
(CIPM), 0 to 40 degC, air-free, at 101.325 kPa.
"""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import ArrayLike

from .curve import Estimate, Float64, doubles, effective
from .errors import CalibrationError, OutOfRange
from .functions.polynomials import Polynomial

AIR = 1.20
"""kg/m^3: air of 20 degC and 101.325 kPa; within 3 % in any laboratory near sea level."""
WEIGHTS = 8000.0
"""kg/m^3: to which balances are adjusted (OIML D 28)."""
COLDEST, WARMEST = 0.0, 40.0
"""degC: where the density of water holds."""


def water_density(temperature: ArrayLike) -> Float64:
    """Density of air-free water in kg/m^3 by its temperature in degC, 0 to 40. Its own uncertainty is 1e-6 of it."""
    t = doubles(temperature)
    if np.any((t < COLDEST) | (t > WARMEST)):
        raise OutOfRange(f"water: the density is known from {COLDEST:g} to {WARMEST:g} degC only")
    return np.asarray(999.974950 * (1.0 - (t - 3.983035) ** 2 * (t + 301.797) / (522528.9 * (t + 69.34881))))


def gravimetric(
    mass: ArrayLike,
    temperature: ArrayLike = 20.0,
    *,
    u_mass: ArrayLike = 0.0,
    u_temperature: float = 0.5,
    evaporated: ArrayLike = 0.0,
    u_evaporated: ArrayLike = 0.0,
    density: float | None = None,
    u_density: float = 0.0,
) -> Estimate:
    """Volume in uL from the mass in mg that a balance showed, with the water at a temperature in degC.

    evaporated: mg lost from the vessel meanwhile (weigh a blank); with microlitres it is the largest part.
    density: kg/m^3, if the liquid isn't water.
    """
    mass, lost = doubles(mass), doubles(evaporated)
    u_mass, u_lost = doubles(u_mass), doubles(u_evaporated)
    t = doubles(temperature)
    if np.any(u_mass < 0.0) or np.any(u_lost < 0.0) or u_temperature < 0.0 or u_density < 0.0:
        raise CalibrationError("gravimetric: a standard uncertainty can't be negative")
    if density is not None and not density > AIR:
        raise CalibrationError("gravimetric: the liquid must be denser than air (kg/m^3)")
    if density is None:
        rho = water_density(t)
        span = np.clip(np.stack([t - 0.05, t + 0.05]), COLDEST, WARMEST)
        slope = np.diff(water_density(span), axis=0)[0] / np.diff(span, axis=0)[0]
        u_rho = np.abs(slope) * u_temperature
    else:
        rho, u_rho = np.full(t.shape, density), np.full(t.shape, u_density)
    factor = (1.0 - AIR / WEIGHTS) / (rho - AIR) * 1e3  # uL per mg
    volume = (mass + lost) * factor
    spread = np.sqrt((factor * u_mass) ** 2 + (factor * u_lost) ** 2 + (volume * u_rho / (rho - AIR)) ** 2)
    return Estimate(np.asarray(volume), np.asarray(spread), np.zeros(volume.shape, bool), "uL")


def syringe(
    diameter: float, *, travel: tuple[float, float], u_diameter: float = 0.0, name: str = "syringe"
) -> Polynomial:
    """Plunger speed in mm/min to flow in uL/min (1 mm^3 is 1 uL); diameter: the bore, mm; travel: valid speeds."""
    if not diameter > 0.0 or u_diameter < 0.0:
        raise CalibrationError(f"{name}: the bore must be above 0 mm, and its uncertainty not below")
    area = np.pi / 4.0 * diameter**2
    u_area = np.pi / 2.0 * diameter * u_diameter
    return Polynomial(
        [0.0, area],
        valid=travel, unit_in="mm/min", unit_out="uL/min", name=name, covariance=[[0.0, 0.0], [0.0, u_area**2]],
    )  # fmt: skip


def correction(shown: float, delivered: Estimate, *, full_scale: float, name: str = "pump") -> Polynomial:
    """Flow that the pump shows to flow that is (uL/min), of the volumes of one delivery or more.

    shown: uL that the pump says it delivered each time; delivered: uL by the balance. The mean of the repetitions,
    with the standard deviation of the mean (GUM 4.2.3) beside the mean uncertainty of the weighings, which errors
    of temperature and density make common. It is a factor: leaks and slack, which it can't describe, show up as
    different factors at different flows.
    """
    volumes = np.ravel(delivered.value)
    if not (shown > 0.0 and full_scale > 0.0) or not np.isfinite(volumes).all() or volumes.size == 0:
        raise CalibrationError(f"{name}: volumes and full scale must be above 0")
    n = volumes.size
    scatter = float(volumes.std(ddof=1)) / np.sqrt(n) if n > 1 else 0.0
    sigma = float(np.hypot(scatter, np.mean(delivered.uncertainty)))
    found = Polynomial(
        [0.0, float(volumes.mean()) / shown],
        valid=(0.0, full_scale), unit_in="uL/min", unit_out="uL/min", name=name,
        covariance=[[0.0, 0.0], [0.0, (sigma / shown) ** 2]],
    )  # fmt: skip
    found.degrees = float(effective(n - 1.0, np.asarray(scatter), np.asarray(sigma))) if scatter else inf
    return found
