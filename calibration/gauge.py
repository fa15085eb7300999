"""Vacuum gauges: from volts or ion current to pascal, and from nitrogen to the gas that is there.

Pirani and ionisation gauges show the pressure of nitrogen (or air) that would give their signal. For another gas
p = C times what they show, as long as heat conduction or ionisation go with the pressure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .curve import Estimate, Float64, doubles
from .errors import CalibrationError
from .functions.base import Parametric
from .functions.composed import Logarithmic
from .functions.polynomials import Polynomial
from .gas_data import Composition, fractions


@dataclass(frozen=True, slots=True)
class GasFactors:
    """True pressure over shown pressure, by gas."""

    name: str
    source: str
    table: Mapping[str, float]
    valid: tuple[float, float]
    """Pa, as shown."""
    spread: float
    """Relative half-width: gauges of one kind differ."""

    def of(self, composition: Composition) -> tuple[float, float]:
        """Factor and standard uncertainty of a gas or mixture. Raises `CalibrationError`.

        Signals of a mixture's gases add: 1/C = sum of x_i / C_i.
        """
        parts = fractions(composition)
        if unknown := [gas for gas in parts if gas not in self.table]:
            raise CalibrationError(
                f"{self.name}: no factor is known for {', '.join(unknown)}; known are {', '.join(self.table)}. "
                "Compare the gauge with a capacitance gauge in that gas"
            )
        factor = 1.0 / sum(part / self.table[gas] for gas, part in parts.items())
        doubt = sum(part / self.table[gas] * (gas not in _AS_NITROGEN) for gas, part in parts.items())
        return factor, factor**2 * doubt * self.spread / float(np.sqrt(3.0))

    def curve(self, composition: Composition) -> Polynomial:
        """Pressure shown to pressure, Pa."""
        factor, sigma = self.of(composition)
        return Polynomial(
            [0.0, factor],
            valid=self.valid, unit_in="Pa", unit_out="Pa", name=self.name, covariance=[[0.0, 0.0], [0.0, sigma**2]],
        )  # fmt: skip


_AS_NITROGEN = ("N2", "air")
"""What the gauges are adjusted with."""

PIRANI = GasFactors(
    "Pirani gauge",
    "INFICON BCG450 manual tina40e1-b, p. 54 (mean values); as Pfeiffer's TPR 271, PG0014, section 6.2. "
    "Its spread is a judgement",
    {"N2": 1.0, "air": 1.0, "O2": 1.0, "CO": 1.0, "CO2": 0.9, "H2": 0.5, "H2O": 0.5, "He": 0.8, "Ne": 1.4, "Ar": 1.7,
     "Kr": 2.4, "Xe": 3.0},
    (1.0, 100.0),
    0.10,
)  # fmt: skip
"""Of 1e-2 to 1 mbar; above, convection and viscous conduction make it a curve for each gas."""
IONISATION = GasFactors(
    "ionisation gauge",
    "P. A. Redhead in the CRC Handbook of Chemistry and Physics, section 15: sensitivities of Bayard-Alpert gauges "
    "relative to nitrogen, mean of 12 experimenters, which differ by 15 %",
    {"N2": 1.0, "air": 1.0, "He": 1 / 0.18, "Ne": 1 / 0.31, "Ar": 1 / 1.4, "Kr": 1 / 1.9, "Xe": 1 / 2.7,
     "H2": 1 / 0.43, "O2": 1 / 0.96, "CO": 1.0, "CO2": 1 / 1.4, "H2O": 1 / 0.93, "CH4": 1 / 1.6},
    (1e-9, 0.1),
    0.15,
)  # fmt: skip
WIDE_RANGE = GasFactors(
    "wide-range gauge",
    "INFICON BCG450 manual tina40e1-b, p. 54, below 1e-3 mbar (mean values). Its spread is a judgement",
    {"N2": 1.0, "air": 1.0, "O2": 1.0, "CO": 1.0, "He": 5.9, "Ne": 4.1, "Ar": 0.8, "Kr": 0.5, "Xe": 0.4, "H2": 2.4},
    (1e-9, 0.1),
    0.20,
)


def log_linear(per_volt: float, offset: float, *, valid: tuple[float, float], name: str = "gauge") -> Logarithmic:
    """A gauge whose voltage is a logarithm: p = 10^(per_volt U - offset) Pa, U in V; valid: in V.

    Pfeiffer TPR 271: 1 per volt (manual PG0014, section 6.1). PKR 251: 1.667 and 9.33 (manual BG 5119, appendix A;
    from memory, not verified).
    """
    line = Polynomial([-offset, per_volt], valid=valid, unit_in="V", unit_out="log10 Pa", name=name)
    return Logarithmic(line, axis="y", unit="Pa")


class Pirani(Parametric):
    """The voltage of a wire kept at one temperature, V to Pa: p = p0 (U^2 - U0^2) / (U1^2 - U^2).

    The wire loses heat to its ends and by radiation (U0, measured in high vacuum) and to the gas, p/(p + p0) of
    what it would lose to gas at high pressure (U1): K. Jousten (ed.), Handbook of Vacuum Technology, chapter on
    thermal conductivity gauges. p0 and U1 depend on the gas; convection is not in it.
    """

    def __init__(
        self,
        empty: float,
        full: float,
        middle: float,
        *,
        valid: tuple[float, float],
        name: str = "Pirani gauge",
        covariance: ArrayLike | None = None,
    ) -> None:
        """empty, full: U0 and U1, V; middle: p0, Pa; valid: in V, between both; covariance: of the three."""
        super().__init__(
            [empty, full, middle], valid=valid, unit_in="V", unit_out="Pa", name=name, covariance=covariance
        )
        if not (0.0 <= empty <= self.valid[0] and self.valid[1] < full and middle > 0.0):
            raise CalibrationError(
                f"{name}: {valid[0]:g} to {valid[1]:g} V must lie from {empty:g} V (empty) to below {full:g} V (full), "
                "and p0 above 0"
            )

    def values(self, x: ArrayLike) -> Float64:
        zero, one, middle = self.coefficients
        square = doubles(x) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(middle * (square - zero**2) / (one**2 - square))

    def slopes(self, x: ArrayLike) -> Float64:
        zero, one, middle = self.coefficients
        x = doubles(x)
        return np.asarray(2.0 * middle * x * (one**2 - zero**2) / (one**2 - x**2) ** 2)

    def solve(self, y: Float64) -> Float64:
        zero, one, middle = self.coefficients
        share = y / (y + middle)
        return np.asarray(np.clip(np.sqrt(zero**2 + (one**2 - zero**2) * share), *self.valid))

    def gradients(self, x: ArrayLike) -> Float64:
        zero, one, middle = self.coefficients
        square = doubles(x) ** 2
        left = one**2 - square
        return np.stack([
            -2.0 * middle * zero / left, -2.0 * middle * one * (square - zero**2) / left**2, (square - zero**2) / left
        ], axis=-1)  # fmt: skip


def ion_pressure(
    collector: ArrayLike,
    emission: ArrayLike,
    sensitivity: float,
    *,
    u_sensitivity: float = 0.0,
    u_collector: ArrayLike = 0.0,
    limit: float = 0.0,
    u_limit: float = 0.0,
) -> Estimate:
    """Pressure, Pa, from a hot cathode's collector and emission currents (A): p = I+ / (S Ie) - limit.

    sensitivity: S, 1/Pa, of the gas that is there (about 0.1 for nitrogen). limit: what X-rays and desorbed ions
    pretend, Pa. Below the limit's uncertainty the pressure is not known, and may come out negative.
    """
    if not sensitivity > 0.0 or min(u_sensitivity, limit, u_limit) < 0.0:
        raise CalibrationError("ionisation gauge: the sensitivity must be above 0, limit and uncertainties not below")
    ions, electrons = doubles(collector), doubles(emission)
    u_ions = doubles(u_collector)
    if (u_ions < 0.0).any():
        raise CalibrationError("ionisation gauge: a standard uncertainty can't be negative")
    electrons = np.where(electrons > 0.0, electrons, np.nan)
    shown = ions / (sensitivity * electrons)
    spread = np.sqrt(
        (u_ions / (sensitivity * electrons)) ** 2 + (shown * u_sensitivity / sensitivity) ** 2 + u_limit**2
    )
    return Estimate(np.asarray(shown - limit), np.asarray(spread), np.zeros(shown.shape, bool), "Pa")
