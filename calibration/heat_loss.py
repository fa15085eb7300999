"""Heat that leaves a hot chip: through gas to the walls, and as radiation, in W per m^2 and kelvin.

Gas, per side: q = k (T - Tw) / (d + g + g), with the gas's conductivity k at the mean temperature, the distance d to
the wall and a temperature jump g at each surface, which takes over where molecules fly from wall to wall:
g = (2 - a)/a 2 gamma/(gamma + 1) lambda/Pr (E. H. Kennard, Kinetic Theory of Gases, 1938), with the
mean free path lambda = (mu/p) sqrt(pi R T / 2 M). Convection plays no part in gaps below some millimetres.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .curve import Float64, doubles
from .gas_data import Composition, R, conductivity, fractions, gas, mean

SIGMA = 5.670374419e-8
"""Stefan and Boltzmann's constant, W/(m^2 K^4), CODATA 2018."""
VISCOSITY_POWER = 0.7
"""mu goes with T^0.7, within a few percent from 300 to 1000 K for the gases here."""


def viscosity(of: Composition, temperature: ArrayLike) -> Float64:
    """In Pa s, at a temperature in K. Of a mixture the mean by mole fraction: here it enters the jump only."""
    at_300 = sum(part * gas(name).viscosity for name, part in fractions(of).items())
    return np.asarray(at_300 * (doubles(temperature) / 300.0) ** VISCOSITY_POWER)


def mean_free_path(of: Composition, pressure: ArrayLike, temperature: ArrayLike) -> Float64:
    """In m, at a pressure in Pa and a temperature in K; infinite at no pressure."""
    pressure, t = doubles(pressure), doubles(temperature)
    speed = np.sqrt(np.pi * R * t / (2e-3 * mean(of, "mass")))
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(viscosity(of, t) / pressure * speed)


def through_gas(
    of: Composition, pressure: ArrayLike, hot: ArrayLike, wall: ArrayLike, distance: float, accommodation: float
) -> Float64:
    """W/(m^2 K) from a hot surface to a wall: pressure in Pa, temperatures in K, distance in m.

    accommodation: 0 to 1, how far a molecule takes on the temperature of what it hits; about 0.9 for heavy gases
    on technical surfaces, 0.2 to 0.5 for helium and hydrogen.
    """
    t = 0.5 * (doubles(hot) + doubles(wall))
    k = conductivity(of, t)
    heat, mass = mean(of, "heat"), mean(of, "mass")
    gamma = heat / (heat - R)
    prandtl = viscosity(of, t) * heat / (1e-3 * mass) / k
    jump = (
        (2.0 - accommodation) / accommodation * 2.0 * gamma / (gamma + 1.0) * mean_free_path(of, pressure, t) / prandtl
    )
    return np.asarray(k / (distance + 2.0 * jump))


def by_radiation(hot: ArrayLike, wall: ArrayLike, emissivity: float) -> Float64:
    """W/(m^2 K) from a small hot surface to walls around it, kelvin: emissivity sigma (T^4 - Tw^4) / (T - Tw)."""
    t, w = doubles(hot), doubles(wall)
    return np.asarray(emissivity * SIGMA * (t + w) * (t**2 + w**2))
