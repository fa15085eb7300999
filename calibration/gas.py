"""Mass-flow controllers on another gas than they were calibrated with: conversion factors, and those of mixtures.

A thermal flow meter measures a heat capacity per time. Calibrated with nitrogen and flown with a gas of factor C
it lets pass C times what it shows (sccm: mL/min at 0 degC and 101.325 kPa). Factors are a maker's own, for its
sensors differ: use those of the instrument's manual (`Factors`), or a calibration with the gas itself, which is
better than any factor. What is here of tables is what could be read in public manuals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .errors import CalibrationError
from .functions.polynomials import Polynomial
from .gas_data import Composition, fractions, gas, mean

STRUCTURE = {1: 1.030, 2: 1.000, 3: 0.941}
"""MKS: molecular structure factors by number of atoms; `POLYATOMIC` from four on."""
POLYATOMIC = 0.880
THERMAL_SPREAD = 0.05
"""Relative half-width of a factor from heat capacities alone: MKS's own for argon is 1.39 and its formula says
1.44. A judgement."""


@dataclass(frozen=True, slots=True)
class Factors:
    """A maker's table: factors relative to nitrogen, and how far they may be off."""

    maker: str
    source: str
    table: Mapping[str, float]
    spread: float
    """Relative half-width for factors above 1; below 1 it is divided by the factor."""

    def of(self, composition: Composition) -> tuple[float, float]:
        """Factor and standard uncertainty of a gas or mixture. Raises `CalibrationError`.

        A mixture: 1/C = sum of x_i / C_i (heat capacities add; Brooks 5851EM manual section 4-3). The errors of
        its gases are taken to go together, which is the larger of the two choices.
        """
        parts = fractions(composition)
        if unknown := [name for name in parts if name not in self.table]:
            raise CalibrationError(
                f"gas: {self.maker}'s table ({self.source}) has no {', '.join(unknown)}; it has "
                f"{', '.join(self.table)}. Take the factor from the instrument's manual"
            )
        factor = 1.0 / sum(part / self.table[name] for name, part in parts.items())
        spread = factor**2 * sum(part * self._sigma(name) / self.table[name] ** 2 for name, part in parts.items())
        return factor, spread

    def _sigma(self, name: str) -> float:
        """Of a rectangular distribution (GUM 4.3.7); nitrogen is 1 by definition."""
        factor = self.table[name]
        half = 0.0 if name == "N2" else self.spread * (factor if factor > 1.0 else 1.0 / factor)
        return half / float(np.sqrt(3.0))


HASTINGS_200 = Factors(
    "Teledyne Hastings 200",
    "Teledyne Hastings blog, D. Baker, 2 November 2020; spread as Bronkhorst's",
    {"N2": 1.0, "He": 1.402, "O2": 0.981, "CO2": 0.743, "CO": 1.001, "CH4": 0.770, "NH3": 0.781, "H2": 1.009,
     "Ar": 1.401},
    0.02,
)  # fmt: skip
HASTINGS_300 = Factors(
    "Teledyne Hastings 300",
    "as the 200 series",
    {"N2": 1.0, "He": 1.400, "O2": 0.978, "CO2": 0.753, "CO": 1.001, "CH4": 0.779, "NH3": 0.781, "H2": 1.004,
     "Ar": 1.405},
    0.02,
)  # fmt: skip
MKS = Factors(
    "MKS",
    "MKS Mass Flow FAQ; only what it names; spread as Scribner's note on it (5 % of reading)",
    {"N2": 1.0, "Ar": 1.39, "CO2": 0.70},
    0.05,
)
BRONKHORST = Factors(
    "Bronkhorst",
    "EX-FLOW manual 9.17.028, section 1.5; only what it names there",
    {"N2": 1.0, "CO2": 0.74},
    0.02,
)
BROOKS = Factors(
    "Brooks", "5851EM manual X-TMF-5965-5851EM, section 4-3; only what it names there", {"N2": 1.0, "CO2": 0.773}, 0.05
)


def from_heat(composition: Composition) -> tuple[float, float]:
    """Factor and standard uncertainty from heat capacities alone, for gases that no table has.

    MKS's rule (1179A manual, "The Gas Correction Factor"; MKS Mass Flow FAQ): C = 0.3106 sum(x_i s_i) /
    sum(x_i d_i cp_i), with structure factors s, standard densities d and specific heats cp. d times cp is the
    molar heat capacity over the molar volume, so that 0.3106 is that of nitrogen.
    """
    parts = fractions(composition)
    structure = sum(part * STRUCTURE.get(gas(name).atoms, POLYATOMIC) for name, part in parts.items())
    factor = structure * gas("N2").heat / mean(parts, "heat")
    return factor, 0.0 if set(parts) == {"N2"} else THERMAL_SPREAD * factor / float(np.sqrt(3.0))


def flow(
    composition: Composition,
    factors: Factors,
    *,
    full_scale: float,
    calibrated: Composition = "N2",
) -> Polynomial:
    """Flow shown to flow that is, both in sccm, of an instrument calibrated with another gas.

    full_scale: sccm, as the instrument shows it, and the end of the valid range. The setpoint for a wanted flow is
    the curve's inverse.
    """
    if not full_scale > 0.0:
        raise CalibrationError("flow: the full scale must be above 0 sccm")
    if fractions(composition) == fractions(calibrated):
        ratio, sigma = 1.0, 0.0
    else:
        (there, u_there), (here, u_here) = factors.of(composition), factors.of(calibrated)
        ratio = there / here
        sigma = ratio * float(np.hypot(u_there / there, u_here / here))
    return Polynomial(
        [0.0, ratio],
        valid=(0.0, full_scale), unit_in="sccm", unit_out="sccm", name=f"{factors.maker} on {_name(composition)}",
        covariance=[[0.0, 0.0], [0.0, sigma**2]],
    )  # fmt: skip


def _name(composition: Composition) -> str:
    return " + ".join(name if part == 1.0 else f"{part:.3g} {name}" for name, part in fractions(composition).items())
