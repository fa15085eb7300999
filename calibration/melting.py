"""Melting points as references: what melts in the picture tells the temperature of the specimen itself.

Bulk metals: the fixed points of the ITS-90 (H. Preston-Thomas, Metrologia 27 (1990) 3, table 1) and two secondary
points (bismuth and lead: R. E. Bedford et al., Metrologia 33 (1996) 133). Small particles melt lower, by
A/d of their melting point in kelvin (Gibbs and Thomson; P. Pawlow, Z. phys. Chem. 65 (1909) 545).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .curve import Estimate, doubles
from .errors import CalibrationError

ZERO = 273.15
MELTING = {
    "Ga": 29.7646, "In": 156.5985, "Sn": 231.928, "Bi": 271.402, "Pb": 327.462, "Zn": 419.527, "Al": 660.323,
    "Ag": 961.78, "Au": 1064.18, "Cu": 1084.62,
}  # fmt: skip
"""degC at 101.325 kPa, of pure metals that melt or freeze undisturbed: gold, silver and copper at their freezing
points, without oxygen. Pressure moves them by some 5e-8 K/Pa, which is nothing here."""
GOLD_SHRINKS = 0.67
"""nm: A of gold, 4 (gs - gl (rs/rl)^(2/3)) / (rs L), with surface energies 1.38 and 1.135 J/m^2, densities 18400 and
17280 kg/m^3 and 63.7 kJ/kg: constants as in Ph. Buffat and J.-P. Borel, Phys. Rev. A 13 (1976) 2287, from memory."""


def melting_point(
    metal: str,
    diameter: ArrayLike | None = None,
    *,
    u_diameter: ArrayLike = 0.0,
    shrinks: float | None = None,
    u_shrinks: float | None = None,
) -> Estimate:
    """degC at which a metal melts, in bulk (exact: the scale is defined by it) or as a particle of a diameter in nm.

    shrinks: A in nm, in T = T_bulk (1 - A/d) with T in kelvin; gold's is known here. u_shrinks: a third of it if
    None, for models of melting (all at once, from the surface in) differ by as much, and ligands and the support
    change the surface's energy. Below 3 A or so the rule ends: `uncertain`. Raises `CalibrationError`.
    """
    if metal not in MELTING:
        raise CalibrationError(f"melting: {metal!r} has no melting point here; known are {', '.join(MELTING)}")
    bulk = MELTING[metal]
    if diameter is None:
        return Estimate(np.asarray(bulk), np.zeros(()), np.zeros((), bool), "degC")
    a = GOLD_SHRINKS if shrinks is None and metal == "Au" else shrinks
    if a is None or not a > 0.0:
        raise CalibrationError(f"melting: small particles of {metal} melt lower, and how much is not known here; say "
                               "`shrinks`, in nm, above 0")  # fmt: skip
    d, u_d = doubles(diameter), doubles(u_diameter)
    if (d <= 0.0).any() or (u_d < 0.0).any():
        raise CalibrationError("melting: diameters must be above 0 nm, and their uncertainty not below")
    u_a = a / 3.0 if u_shrinks is None else u_shrinks
    drop = (bulk + ZERO) * a / d
    spread = drop * np.hypot(u_a / a, u_d / d)
    return Estimate(np.asarray(bulk - drop), np.asarray(spread), np.asarray(d < 3.0 * a), "degC")
