"""Thermocouples B, E, J, K, N, R, S and T: volts to temperature and back, with the cold junction, on ITS-90.

Reference functions: NIST Monograph 175, IEC 60584-1:2013 (see its90_data.py). Limits of the classes: IEC 60584-1:2013
(formerly IEC 60584-2), as reprinted by Thermo-Electra ("Handy book for E&I engineers"), SAB and Guenther.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from .curve import Estimate, Float64, Outside, doubles
from .errors import CalibrationError
from .horner import Bump, PiecewisePolynomial
from .its90_data import RETURN_B, THERMOCOUPLES
from .lookup import Tabled
from .tolerance import Tolerance

ToleranceClass = Literal[1, 2, 3]

PRINTED = 0.5e-3 * (1.0 + 1e-9)
"""mV: half of the last digit of the tables."""


def _base(
    one: float, two: float, least: tuple[float, float] = (1.5, 2.5), cold: float | None = None
) -> dict[int, Tolerance]:
    """Classes of a base-metal type: upper ends and least limits of classes 1 and 2, and of class 3 if any."""
    classes = {
        1: Tolerance(-40.0, one, rate=0.004, least=least[0]),
        2: Tolerance(-40.0, two, rate=0.0075, least=least[1]),
    }
    return classes | ({} if cold is None else {3: Tolerance(-200.0, 40.0, rate=0.015, least=cold)})


_NOBLE = {
    1: Tolerance(0.0, 1600.0, base=1.0 - 0.003 * 1100.0, rate=0.003, least=1.0),
    2: Tolerance(0.0, 1600.0, rate=0.0025, least=1.5),
}
TOLERANCES: dict[str, dict[int, Tolerance]] = {
    "B": {2: Tolerance(600.0, 1700.0, rate=0.0025), 3: Tolerance(600.0, 1700.0, rate=0.005, least=4.0)},
    "E": _base(800.0, 900.0, cold=2.5),
    "J": _base(750.0, 750.0),
    "K": _base(1000.0, 1200.0, cold=2.5),
    "N": _base(1000.0, 1200.0, cold=2.5),
    "R": _NOBLE,
    "S": _NOBLE,
    "T": _base(350.0, 350.0, (0.5, 1.0), cold=1.0),
}
"""By letter and class: limits for wires as delivered; use at high temperature moves them."""


class Thermocouple(Tabled):
    """A thermocouple of a letter-designated type. As a curve: degC to mV, the reference junction at 0 degC."""

    unit_in = "degC"
    unit_out = "mV"

    def __init__(self, letter: str, *, tolerance: ToleranceClass | None = None) -> None:
        """A `tolerance` class (IEC 60584-1) makes the curve uncertain by its limits and narrows the range to them.

        Without one the curve is taken as exact, and whoever uses it has to know the wires' deviation.
        """
        if letter not in THERMOCOUPLES:
            raise CalibrationError(f"no thermocouple of type {letter!r}; known are {', '.join(THERMOCOUPLES)}")
        data, classes = THERMOCOUPLES[letter], TOLERANCES[letter]
        if tolerance is not None and tolerance not in classes:
            raise CalibrationError(
                f"type {letter} has no class {tolerance!r}; it has {' and '.join(map(str, classes))}"
            )
        self.letter = letter
        self.tolerance = None if tolerance is None else classes[tolerance]
        self.name = f"type {letter}" + ("" if tolerance is None else f", class {tolerance}")
        self.junction = (data.edges[0], data.edges[-1])
        """Range of the reference junction, degC: that of the reference function."""
        self.valid = self.junction if self.tolerance is None else (self.tolerance.low, self.tolerance.high)
        bump = None if data.bump is None else Bump((data.bump[0],), *data.bump[1:])
        self._emf = PiecewisePolynomial(data.edges, data.polynomials, bump)
        self._seebeck = self._emf.derivative()

    @property
    def span(self) -> tuple[float, float]:
        """Range of the reference function; type B from 42.13 degC, below which its voltage tells two temperatures."""
        low, high = self.junction
        return (RETURN_B if self.letter == "B" else low), high

    @property
    def invertible(self) -> tuple[float, float]:
        """The valid range, as far as it is in the span."""
        return max(self.valid[0], self.span[0]), self.valid[1]

    @property
    def seam(self) -> float:
        """Where the first polynomial ends: the Seebeck coefficient of type N jumps there by 0.9 %."""
        return THERMOCOUPLES[self.letter].edges[1]

    @property
    def rounding(self) -> tuple[float, float]:
        """0.5 uV; none where type B would tell two temperatures."""
        return (0.0 if self.letter == "B" else PRINTED), PRINTED

    @property
    def exact(self) -> bool:
        """Whether no tolerance was given."""
        return self.tolerance is None

    def values(self, x: ArrayLike) -> Float64:
        """Voltage in mV at x in degC, the reference junction at 0 degC."""
        return self._emf(x)

    def slopes(self, x: ArrayLike) -> Float64:
        """Seebeck coefficient, mV/K."""
        return self._seebeck(x)

    def own(self, x: ArrayLike) -> Float64:
        """Standard uncertainty of the wires' voltage from their tolerance class, mV; 0 without a class."""
        if self.tolerance is None:
            return super().own(x)
        return self.tolerance.uncertainty(x) * np.abs(self.slopes(x))

    def temperature(
        self,
        emf: ArrayLike,
        junction: ArrayLike,
        *,
        uncertainty: ArrayLike = 0.0,
        junction_uncertainty: ArrayLike = 0.0,
        outside: Outside = "refuse",
    ) -> Estimate:
        """Temperature in degC from the voltmeter's `emf` in mV and the temperature of the reference junction in degC.

        E(t) = emf + E(junction); u(t)^2 = (u(emf)^2 + (S(junction) u(junction))^2 + own(t)^2) / S(t)^2, S the Seebeck
        coefficient, u(emf) = `uncertainty` in mV, u(junction) = `junction_uncertainty` in K. All readings that share a
        junction share its error: averaging them does not lessen that part. Raises `OutOfRange`, always for a junction
        beyond the reference function, and for `emf` unless `outside` is "mark".
        """
        offset, sigma = self._compensate(junction, junction_uncertainty, uncertainty)
        return self.inverse(doubles(emf) + offset, sigma, outside=outside)

    def emf(
        self,
        temperature: ArrayLike,
        junction: ArrayLike,
        *,
        uncertainty: ArrayLike = 0.0,
        junction_uncertainty: ArrayLike = 0.0,
        outside: Outside = "refuse",
    ) -> Estimate:
        """Voltage in mV between `temperature` and `junction`, both in degC with standard uncertainties in K."""
        offset, sigma = self._compensate(junction, junction_uncertainty, 0.0)
        at = self(temperature, uncertainty, outside=outside)
        value = np.asarray(at.value - offset)
        shape = value.shape
        spread = np.broadcast_to(np.hypot(at.uncertainty, sigma), shape)
        return Estimate(value, spread, np.broadcast_to(at.uncertain, shape), self.unit_out)

    def _compensate(self, junction: ArrayLike, spread: ArrayLike, sigma: ArrayLike) -> tuple[Float64, Float64]:
        """Voltage that the cold junction lacks, mV, and `sigma` in mV with that of the junction added."""
        junction = doubles(junction)
        self._beyond(junction, self.junction, "degC at the reference junction", "refuse")
        of_junction = self._sigma(spread)
        if not np.any(of_junction):
            return self.values(junction), self._sigma(sigma)
        return self.values(junction), np.hypot(self._sigma(sigma), self.slopes(junction) * of_junction)
