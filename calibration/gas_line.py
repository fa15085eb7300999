"""How long gas travels from the valve to the specimen: the delay of a line, by flow and pressure.

Plug flow: delay = volume of gas in the line / flow. The flow is in sccm, the gas in the line is at the line's
pressure p and temperature T, so that delay = V (p/p0) (T0/T) / flow + dead. It is the steady state of what
`hal.frames.transit` integrates over a changing flow; that takes `standard_volume` times 60 as its volume in
sccm s. Gas does not arrive all at once: diffusion and the profile of the flow spread it over a good part of the
delay, and valves and tees with dead ends over more. Measure it; this is for between the measured points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .curve import Float64, doubles
from .errors import CalibrationError
from .functions.base import Parametric

STANDARD_PRESSURE = 101325.0
"""Pa, of an sccm (SEMI E12)."""
STANDARD_TEMPERATURE = 273.15
"""K, likewise."""


def mean_pressure(inlet: ArrayLike, outlet: ArrayLike) -> Float64:
    """Mean pressure, Pa, along a line in which gas flows laminarly from inlet to outlet pressure (Pa).

    With Poiseuille's law for a compressible gas at one temperature p^2 falls linearly along the line, and the mean
    is 2/3 (p1^3 - p2^3) / (p1^2 - p2^2). Not for molecular flow, below some 100 Pa in a millimetre.
    """
    one, other = doubles(inlet), doubles(outlet)
    if (one < 0.0).any() or (other < 0.0).any():
        raise CalibrationError("gas line: a pressure can't be negative")
    total = one + other
    # The same with (p1 - p2) divided out, which holds for equal pressures too.
    mean = 2.0 / 3.0 * (total - np.divide(one * other, total, out=np.zeros_like(total), where=total > 0.0))
    return np.asarray(mean)


def standard_volume(volume: float, pressure: ArrayLike, temperature: ArrayLike = 20.0) -> Float64:
    """Gas in a line, in mL at standard conditions: volume in mL, mean pressure in Pa, temperature in degC."""
    kelvin = doubles(temperature) + 273.15
    pressure = doubles(pressure)
    if volume < 0.0 or (pressure < 0.0).any() or (kelvin <= 0.0).any():
        raise CalibrationError("gas line: volume and pressure can't be negative, nor the temperature below 0 K")
    return np.asarray(volume * pressure / STANDARD_PRESSURE * STANDARD_TEMPERATURE / kelvin)


class LineDelay(Parametric):
    """Flow in sccm to delay in s, at one pressure: delay = dead + V f / flow, f from pressure and temperature.

    Its two coefficients are linear: a fit over 1/flow gives them with their covariance.
    """

    def __init__(
        self,
        volume: float,
        *,
        pressure: float,
        valid: tuple[float, float],
        temperature: float = 20.0,
        dead: float = 0.0,
        name: str = "gas line",
        covariance: ArrayLike | None = None,
    ) -> None:
        """volume: mL; dead: s that no flow shortens; pressure: mean in the line, Pa; temperature: degC;
        valid: least and greatest flow, above 0 sccm; covariance: of (volume, dead), 2 x 2."""
        super().__init__([volume, dead], valid=valid, unit_in="sccm", unit_out="s", name=name, covariance=covariance)
        if self.valid[0] <= 0.0:
            raise CalibrationError(f"{name}: its valid flows must lie above 0 sccm; gas that stands never arrives")
        if dead < 0.0 or volume <= 0.0 or pressure <= 0.0:
            raise CalibrationError(f"{name}: volume and pressure must be above 0, and the dead time not below")
        self.pressure, self.temperature = pressure, temperature
        self._seconds = 60.0 * float(standard_volume(1.0, pressure, temperature))

    def at(self, pressure: float, temperature: float | None = None) -> LineDelay:
        """The same line at another mean pressure (Pa) and, if given, temperature (degC)."""
        return LineDelay(
            float(self.coefficients[0]), dead=float(self.coefficients[1]), pressure=pressure, valid=self.valid,
            temperature=self.temperature if temperature is None else temperature, name=self.name,
            covariance=self.covariance,
        )  # fmt: skip

    def values(self, x: ArrayLike) -> Float64:
        volume, dead = self.coefficients
        return np.asarray(dead + volume * self._per_flow(x))

    def slopes(self, x: ArrayLike) -> Float64:
        x = doubles(x)
        return np.asarray(-self.coefficients[0] * self._per_flow(x) / x)

    def solve(self, y: Float64) -> Float64:
        volume, dead = self.coefficients
        return np.asarray(np.clip(volume * self._seconds / (y - dead), *self.valid))

    def gradients(self, x: ArrayLike) -> Float64:
        per = self._per_flow(x)
        return np.stack([per, np.ones_like(per)], axis=-1)

    def _per_flow(self, x: ArrayLike) -> Float64:
        x = doubles(x)
        return np.asarray(np.divide(self._seconds, x, out=np.full(x.shape, np.nan), where=x > 0.0))
