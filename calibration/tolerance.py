"""By how much a sensor that nobody calibrated may be wrong: the limits of its class, as a type B uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .curve import Float64, doubles

RECTANGULAR = 3.0**-0.5
"""Standard uncertainty of what is anywhere within +/- 1, all places alike (GUM 4.3.7)."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """+/- the greater of `least` and `base` + `rate` |t|, in kelvin, for t between `low` and `high` in degC."""

    low: float
    high: float
    base: float = 0.0
    rate: float = 0.0
    least: float = 0.0

    def limit(self, t: ArrayLike) -> Float64:
        """Greatest deviation that the class allows at t in degC; K."""
        return np.maximum(self.least, self.base + self.rate * np.abs(doubles(t)))

    def uncertainty(self, t: ArrayLike) -> Float64:
        """Standard uncertainty at t in degC, all deviations within the limits taken as equally likely; K."""
        return RECTANGULAR * self.limit(t)
