"""Industrial platinum thermometers (Pt100, Pt1000): ohms to temperature and back, after IEC 60751.

R = R0 (1 + A t + B t^2), and below 0 degC with C (t - 100) t^3 more (Callendar and Van Dusen); t in degC, -200 to 850.
Coefficients: IEC 60751:2008, the same in the edition of 2022, ASTM E1137 and JIS C 1604. Limits of the classes: IEC
60751:2008, table 3, as reprinted by SAB Kabel and in WIKA's manual of the TR10-J.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from .curve import Float64
from .errors import CalibrationError, NotMonotone
from .horner import PiecewisePolynomial
from .lookup import Tabled
from .tolerance import Tolerance

A, B, C = 3.9083e-3, -5.775e-7, -4.183e-12
"""1/K, 1/K^2, 1/K^4: platinum whose resistance rises by a factor of 1.3851 from 0 to 100 degC."""
LOW, HIGH = -200.0, 850.0
"""Range of the equations, degC."""
PRINTED = 0.5e-4 * (1.0 + 1e-9)
"""Half of the last digit of the table, as part of the resistance at 0 degC."""
CHECKED = 2101
"""Places at which given coefficients are checked to make the resistance rise: every 0.5 K."""

ToleranceClass = Literal["AA", "A", "B", "C"]
Element = Literal["wire", "film"]
TOLERANCES: dict[str, dict[str, Tolerance]] = {
    "wire": {
        "AA": Tolerance(-50.0, 250.0, base=0.1, rate=0.0017),
        "A": Tolerance(-100.0, 450.0, base=0.15, rate=0.002),
        "B": Tolerance(-196.0, 600.0, base=0.3, rate=0.005),
        "C": Tolerance(-196.0, 600.0, base=0.6, rate=0.01),
    },
    "film": {
        "AA": Tolerance(0.0, 150.0, base=0.1, rate=0.0017),
        "A": Tolerance(-30.0, 300.0, base=0.15, rate=0.002),
        "B": Tolerance(-50.0, 500.0, base=0.3, rate=0.005),
        "C": Tolerance(-50.0, 600.0, base=0.6, rate=0.01),
    },
}
"""By element (wound wire or thin film) and class: limits of thermometers."""


class Platinum(Tabled):
    """An industrial platinum resistor, four-wire: degC to ohm. Leads and self-heating are not in it."""

    unit_in = "degC"
    unit_out = "Ohm"

    def __init__(
        self,
        nominal: float = 100.0,
        *,
        tolerance: ToleranceClass | None = None,
        element: Element = "wire",
        a: float = A,
        b: float = B,
        c: float = C,
    ) -> None:
        """`nominal`: ohms at 0 degC. A calibrated sensor has its own `a`, `b`, `c`; one of a `tolerance` class has not.

        The class makes the curve uncertain by its limits and narrows the range to where they hold.
        Raises `NotMonotone` if the coefficients make the resistance fall anywhere in the range.
        """
        if not (np.isfinite(nominal) and nominal > 0.0):
            raise CalibrationError(f"the resistance at 0 degC is positive, not {nominal!r} ohm")
        if element not in TOLERANCES:
            raise CalibrationError(f'an element is "wire" or "film", not {element!r}')
        if tolerance is not None and tolerance not in TOLERANCES[element]:
            raise CalibrationError(f"IEC 60751 knows the classes AA, A, B and C, not {tolerance!r}")
        if tolerance is not None and (a, b, c) != (A, B, C):
            raise CalibrationError("either a tolerance class or coefficients of the sensor's own, not both")
        self.nominal = float(nominal)
        self.name = f"Pt{nominal:g}" + ("" if tolerance is None else f", class {tolerance} ({element})")
        self.tolerance = None if tolerance is None else TOLERANCES[element][tolerance]
        self.valid = (LOW, HIGH) if self.tolerance is None else (self.tolerance.low, self.tolerance.high)
        cold, warm = (1.0, a, b, -100.0 * c, c), (1.0, a, b)
        self._ratio = PiecewisePolynomial((LOW, 0.0, HIGH), (cold, warm))
        self._rise = self._ratio.derivative()
        t = np.linspace(LOW, HIGH, CHECKED)
        if not np.all(rise := self._rise(t) > 0.0):
            raise NotMonotone(f"{self.name}: with these coefficients the resistance falls near {t[~rise][0]:g} degC")

    @property
    def span(self) -> tuple[float, float]:
        """Range of the equations."""
        return LOW, HIGH

    @property
    def rounding(self) -> tuple[float, float]:
        """Half of the last digit of the table of Pt100, 5 mOhm, and as much of others' in proportion."""
        half = PRINTED * self.nominal
        return half, half

    @property
    def exact(self) -> bool:
        """Whether no tolerance was given."""
        return self.tolerance is None

    def values(self, x: ArrayLike) -> Float64:
        """Resistance in ohm at x in degC."""
        return self.nominal * self._ratio(x)

    def slopes(self, x: ArrayLike) -> Float64:
        """dR/dt in ohm/K."""
        return self.nominal * self._rise(x)

    def own(self, x: ArrayLike) -> Float64:
        """Standard uncertainty of the resistance from the tolerance class, ohm; 0 without a class."""
        if self.tolerance is None:
            return super().own(x)
        return self.tolerance.uncertainty(x) * self.slopes(x)
