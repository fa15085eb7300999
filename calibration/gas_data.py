"""Properties of the gases that people let into microscopes, for conversion factors, gas lines and gas cells.

Molar masses: IUPAC standard atomic weights. Molar heat capacities at constant pressure, 298.15 K, ideal gas: NIST
Chemistry WebBook, gas phase thermochemistry data. Thermal conductivities at 300 and 600 K (hydrogen: 300 and
400 K) and viscosities at 300 K, at 100 kPa: CRC Handbook of Chemistry and Physics, section 6, "Thermal Conductivity
of Gases" and "Viscosity of Gases"; between and beyond, a power of the temperature goes through the two points.
They were entered from memory of these tables and compared with kinetic theory, not proof-read against print: good
for what is done with them here (5 %), not for more. Water is not in the table: it condenses in lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .curve import Float64, doubles
from .errors import CalibrationError

Composition = str | Mapping[str, float]
"""A gas by its formula, ``Ar``, or a mixture with its fractions by volume: ``{"Ar": 0.95, "H2": 0.05}``."""

R = 8.314462618
"""J/(mol K), CODATA 2018."""


@dataclass(frozen=True, slots=True)
class Gas:
    """One gas; conductivity(T) = conductivity (T/300 K)^power."""

    mass: float
    """g/mol."""
    heat: float
    """J/(mol K): molar heat capacity at constant pressure, 298.15 K."""
    conductivity: float
    """W/(m K) at 300 K."""
    power: float
    viscosity: float
    """Pa s at 300 K."""
    atoms: int


def _gas(mass: float, heat: float, k300: float, k_hot: float, viscosity: float, atoms: int, hot: float = 600.0) -> Gas:
    """From conductivities in mW/(m K) at 300 K and at `hot`, and a viscosity in uPa s."""
    power = float(np.log(k_hot / k300) / np.log(hot / 300.0))
    return Gas(mass, heat, 1e-3 * k300, power, 1e-6 * viscosity, atoms)


GASES: Mapping[str, Gas] = {
    "He": _gas(4.0026, 20.786, 156.7, 252.4, 20.0, 1),
    "Ne": _gas(20.180, 20.786, 49.8, 77.2, 32.1, 1),
    "Ar": _gas(39.95, 20.786, 17.9, 30.6, 22.9, 1),
    "Kr": _gas(83.798, 20.786, 9.5, 17.1, 25.6, 1),
    "Xe": _gas(131.29, 20.786, 5.5, 10.6, 23.2, 1),
    "H2": _gas(2.016, 28.836, 186.9, 230.4, 9.0, 2, hot=400.0),
    "N2": _gas(28.014, 29.124, 26.0, 44.0, 17.9, 2),
    "O2": _gas(31.998, 29.378, 26.3, 48.1, 20.8, 2),
    "CO": _gas(28.010, 29.142, 25.0, 45.7, 17.8, 2),
    "air": _gas(28.96, 29.1, 26.2, 45.7, 18.6, 2),
    "CO2": _gas(44.009, 37.135, 16.8, 41.6, 15.0, 3),
    "CH4": _gas(16.043, 35.695, 34.1, 84.1, 11.2, 5),
    "NH3": _gas(17.031, 35.06, 24.4, 66.6, 10.2, 4),
}


def fractions(of: Composition) -> dict[str, float]:
    """The gases that are there, with their fractions, which must add up to 1 within 1e-6. Raises `CalibrationError`."""
    found = {of: 1.0} if isinstance(of, str) else dict(of)
    if not found or any(not 0.0 <= part <= 1.0 for part in found.values()):
        raise CalibrationError("gas: the fractions of a mixture lie between 0 and 1")
    if abs(sum(found.values()) - 1.0) > 1e-6:
        raise CalibrationError(f"gas: the fractions add up to {sum(found.values()):g}, not to 1")
    return {name: part for name, part in found.items() if part > 0.0}


def gas(name: str) -> Gas:
    """The properties of one gas. Raises `CalibrationError`."""
    try:
        return GASES[name]
    except KeyError:
        raise CalibrationError(f"gas: nothing is known here of {name!r}; known are {', '.join(GASES)}") from None


def mean(of: Composition, what: str) -> float:
    """The mean of ``mass``, ``heat`` or ``atoms`` by mole fraction."""
    return sum(part * float(getattr(gas(name), what)) for name, part in fractions(of).items())


def conductivity(of: Composition, temperature: ArrayLike) -> Float64:
    """Thermal conductivity in W/(m K) at a temperature in K, of a gas whose molecules hit each other.

    Of mixtures after Wassiljewa with the coefficients of E. A. Mason and S. C. Saxena, Phys. Fluids 1 (1958) 361
    (their factor 1.065 taken as 1, as usual since): some percent.
    """
    t = doubles(temperature)
    parts = [(gas(name), part) for name, part in fractions(of).items()]
    each = [one.conductivity * (t / 300.0) ** one.power for one, _ in parts]
    if len(each) == 1:
        return np.asarray(each[0])
    whole = np.zeros(t.shape)
    for (one, mine), k in zip(parts, each, strict=True):
        # The ratio of monatomic conductivities is that of viscosity over mass.
        weights = [
            part
            * (1.0 + np.sqrt(one.viscosity / other.viscosity * other.mass / one.mass) * (one.mass / other.mass) ** 0.25)
            ** 2
            / np.sqrt(8.0 * (1.0 + one.mass / other.mass))
            for other, part in parts
        ]
        whole = whole + mine * k / sum(weights)
    return np.asarray(whole)
