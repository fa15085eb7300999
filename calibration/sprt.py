"""Standard platinum thermometers: ohms to temperature on the ITS-90 itself, by reference and deviation functions.

W = R(t) / R(0.01 degC); the reference function Wr(t) holds for an ideal thermometer, and a real one differs by
W - Wr = a deviation function of W whose coefficients its fixed points give.

H. Preston-Thomas, "The International Temperature Scale of 1990 (ITS-90)", Metrologia 27 (1990) 3-10: equations (9a) and
(10a), (12) to (14), tables 1, 4 and 5. The sub-ranges are numbered as in NIST Technical Note 1265 and by the makers of
thermometry bridges: 1 to 4 end at the triple point of water, 5 lies about it, 6 to 11 begin at 0 degC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .curve import Float64, doubles
from .errors import CalibrationError, FitError, NotMonotone
from .functions.base import checked_covariance
from .horner import derivative, horner
from .its90_data import FIXED_POINTS, PLATINUM_A, PLATINUM_C
from .lookup import Tabled

ZERO = 273.15
WATER = 273.16
"""K: 0 degC and the triple point of water."""
TRIPLE = FIXED_POINTS["H2O"]
LOW, HIGH = FIXED_POINTS["e-H2"], FIXED_POINTS["Ag"]
STEPS = 20
"""Newton's steps from Wr to W at most; the deviation is so small that two or three are enough."""
SAME = 0.01
"""K within which a temperature is taken for that of the aluminium point."""
CHECKED = 1001
"""Places at which given coefficients are checked to make the resistance rise."""


class Reference(Tabled):
    """The ITS-90 reference function: degC to Wr, -259.3467 to 961.78 degC."""

    name = "ITS-90 reference function"
    unit_in = "degC"
    unit_out = "1"
    valid = (LOW, HIGH)
    accuracy = 1e-5
    """K: the best thermometers tell a tenth of a millikelvin."""

    def values(self, x: ArrayLike) -> Float64:
        """Wr at x in degC: equation (9a) below the triple point of water, (10a) above it."""
        x = doubles(x)
        return np.where(x < TRIPLE, np.exp(self._cold(x)), self._warm(x))

    def slopes(self, x: ArrayLike) -> Float64:
        """dWr/dt in 1/K."""
        x = doubles(x)
        by_log = derivative(PLATINUM_A)
        log = _logarithm(x)
        cold = np.exp(self._cold(x)) * horner(log, by_log, np.empty_like(log)) / (1.5 * np.maximum(x + ZERO, 1e-3))
        place = (x - 481.0) / 481.0
        warm = horner(place, derivative(PLATINUM_C), np.empty_like(place)) / 481.0
        return np.where(x < TRIPLE, cold, warm)

    @staticmethod
    def _cold(x: Float64) -> Float64:
        log = _logarithm(np.minimum(x, TRIPLE))
        return horner(log, PLATINUM_A, np.empty_like(log))

    @staticmethod
    def _warm(x: Float64) -> Float64:
        place = (x - 481.0) / 481.0
        return horner(place, PLATINUM_C, np.empty_like(place))


def _logarithm(x: Float64) -> Float64:
    """The argument of equation (9a)."""
    return np.asarray((np.log(np.maximum(x + ZERO, 1e-3) / WATER) + 1.5) / 1.5)


REFERENCE = Reference()


@dataclass(frozen=True, slots=True)
class Subrange:
    """Where a deviation function holds, in degC, and of what terms it is made."""

    low: float
    high: float
    powers: int = 0
    """(W - 1)^1 ... (W - 1)^powers."""
    logarithms: tuple[int, ...] = ()
    """(ln W)^k for each."""
    mixed: bool = False
    """(W - 1) ln W."""
    silver: bool = False
    """(W - W(660.323 degC))^2 above the aluminium point."""

    @property
    def count(self) -> int:
        """Number of coefficients."""
        return self.powers + len(self.logarithms) + self.mixed + self.silver

    def terms(self, w: Float64, aluminium: float) -> list[Float64]:
        """The terms at W, one for each coefficient, in the order a, b, c ... of the ITS-90."""
        out = [(w - 1.0) ** k for k in range(1, self.powers + 1)]
        with np.errstate(divide="ignore", invalid="ignore"):
            log = np.log(w) if self.logarithms or self.mixed else w
        out += [log**k for k in self.logarithms]
        if self.mixed:
            out.append((w - 1.0) * log)
        if self.silver:
            out.append(np.maximum(w - aluminium, 0.0) ** 2)
        return out

    def slopes(self, w: Float64, aluminium: float) -> list[Float64]:
        """d/dW of the terms."""
        out = [k * (w - 1.0) ** (k - 1) for k in range(1, self.powers + 1)]
        with np.errstate(divide="ignore", invalid="ignore"):
            log = np.log(w) if self.logarithms or self.mixed else w
            out += [k * log ** (k - 1) / w for k in self.logarithms]
            if self.mixed:
                out.append(log + (w - 1.0) / w)
        if self.silver:
            out.append(2.0 * np.maximum(w - aluminium, 0.0))
        return out


SUBRANGES: dict[int, Subrange] = {
    1: Subrange(FIXED_POINTS["e-H2"], TRIPLE, powers=2, logarithms=(3, 4, 5, 6, 7)),
    2: Subrange(FIXED_POINTS["Ne"], TRIPLE, powers=2, logarithms=(1, 2, 3)),
    3: Subrange(FIXED_POINTS["O2"], TRIPLE, powers=2, logarithms=(2,)),
    4: Subrange(FIXED_POINTS["Ar"], TRIPLE, powers=1, mixed=True),
    5: Subrange(FIXED_POINTS["Hg"], FIXED_POINTS["Ga"], powers=2),
    6: Subrange(0.0, FIXED_POINTS["Ag"], powers=3, silver=True),
    7: Subrange(0.0, FIXED_POINTS["Al"], powers=3),
    8: Subrange(0.0, FIXED_POINTS["Zn"], powers=2),
    9: Subrange(0.0, FIXED_POINTS["Sn"], powers=2),
    10: Subrange(0.0, FIXED_POINTS["In"], powers=1),
    11: Subrange(0.0, FIXED_POINTS["Ga"], powers=1),
}
"""ITS-90 table 5. Sub-ranges 1 to 3: a, b, c1 ... of equation (12); 4: a, b of (13); the others: a, b, c, d of (14)."""


class Sprt(Tabled):
    """A standard platinum resistance thermometer in one sub-range of the ITS-90: degC to ohm."""

    unit_in = "degC"
    unit_out = "Ohm"

    def __init__(
        self,
        subrange: int,
        water: float,
        coefficients: Sequence[float] = (),
        *,
        aluminium: float | None = None,
        covariance: ArrayLike | None = None,
    ) -> None:
        """`water`: ohms at the triple point of water; `coefficients`: as the certificate has them, none for the ideal.

        `aluminium`: W at 660.323 degC, needed for sub-range 6 alone. `covariance`: of `water` and the coefficients, in
        this order; without one the thermometer is taken as exact.
        """
        if subrange not in SUBRANGES:
            raise CalibrationError(f"the ITS-90 has sub-ranges 1 to 11, not {subrange!r}")
        self.subrange = SUBRANGES[subrange]
        if not (np.isfinite(water) and water > 0.0):
            raise CalibrationError(f"the resistance at the triple point of water is positive, not {water!r} ohm")
        if coefficients and len(coefficients) != self.subrange.count:
            raise CalibrationError(
                f"sub-range {subrange} has {self.subrange.count} coefficients, but {len(coefficients)} are given"
            )
        if self.subrange.silver and coefficients and aluminium is None:
            raise CalibrationError(f"sub-range {subrange} needs W at the aluminium point (660.323 degC)")
        self.name = f"SPRT in sub-range {subrange}"
        self.water = float(water)
        self.coefficients = tuple(coefficients) or (0.0,) * self.subrange.count
        self.aluminium = float("inf") if aluminium is None else float(aluminium)
        self.covariance = (
            None if covariance is None else checked_covariance(self.name, covariance, 1 + self.subrange.count)
        )
        self.valid = (self.subrange.low, self.subrange.high)
        t = np.linspace(*self.valid, CHECKED)
        if not np.all(rising := self.slopes(t) > 0.0):
            raise NotMonotone(f"{self.name}: with these coefficients the resistance falls near {t[~rising][0]:g} degC")

    @classmethod
    def from_points(
        cls,
        subrange: int,
        water: float,
        points: Mapping[str | float, float],
        *,
        uncertainties: ArrayLike | None = None,
        water_uncertainty: float = 0.0,
    ) -> Sprt:
        """The thermometer whose resistance was measured, in ohm, at as many points as its sub-range has coefficients.

        A point is the symbol of a fixed point ("Zn", see `its90_data.FIXED_POINTS`) or a temperature in degC; `water`
        is given apart. `uncertainties`: standard ones of the points' resistances, in ohm, one for all or one each,
        independent of each other and of `water_uncertainty`; what is known of a fixed point's temperature is to be in
        them. Raises `FitError` if there are too few or too many points, or they lie outside the sub-range.
        """
        ideal = cls(subrange, water)
        form = ideal.subrange
        if len(points) != form.count:
            raise FitError(f"sub-range {subrange} needs {form.count} points beside that of water, not {len(points)}")
        t = np.array([_degrees(point) for point in points])
        if np.any((t < form.low) | (t > form.high)):
            raise FitError(f"a point lies outside sub-range {subrange}, {form.low:g} to {form.high:g} degC")
        w = np.array(list(points.values())) / ideal.water
        aluminium = None
        if form.silver:
            if not (at_aluminium := np.abs(t - FIXED_POINTS["Al"]) < SAME).any():
                raise FitError(f"sub-range {subrange} needs the aluminium point (660.323 degC) among its points")
            aluminium = float(w[at_aluminium][0])
        terms = np.array(form.terms(w, float("inf") if aluminium is None else aluminium)).T
        try:
            found = np.linalg.solve(terms, w - REFERENCE.values(t))
        except np.linalg.LinAlgError:
            raise FitError(f"sub-range {subrange}: two of the points say the same") from None
        made = cls(subrange, water, found.tolist(), aluminium=aluminium)
        if uncertainties is None:
            return made
        # terms(W) c = W - Wr with W = R / water: what an error of R or of water does to c, by way of the terms too
        by_ratio = np.linalg.inv(terms) * (1.0 - made._bent(w))
        change = np.zeros((form.count + 1, form.count + 1))
        change[0, 0] = 1.0
        change[1:, 0] = by_ratio @ (-w / water)
        change[1:, 1:] = by_ratio / water
        variance = np.square([water_uncertainty, *np.broadcast_to(doubles(uncertainties), w.shape)])
        covariance = (change * variance) @ change.T
        return cls(subrange, water, made.coefficients, aluminium=aluminium, covariance=covariance)

    def deviation(self, w: ArrayLike) -> Float64:
        """W - Wr at the thermometer's ratio W = R / R(0.01 degC)."""
        w = doubles(w)
        return self._sum(self.subrange.terms(w, self.aluminium), w)

    def solve(self, y: Float64) -> Float64:
        """Temperature in degC of resistances in ohm: the way that the ITS-90 itself prescribes, Wr to t by table."""
        w = y / self.water
        return REFERENCE.solve(w - self.deviation(w))

    @property
    def exact(self) -> bool:
        """Whether no covariance was given."""
        return self.covariance is None

    def own(self, x: ArrayLike) -> Float64:
        """Standard uncertainty of the resistance in ohm from `covariance`, to first order; 0 without one.

        dR = W d(water) + water dW, (1 - d deviation/dW) dW = the terms times the errors of their coefficients. That of
        W at the aluminium point is not in it.
        """
        if self.covariance is None:
            return super().own(x)
        w = self._ratio(doubles(x))
        terms = np.stack(self.subrange.terms(w, self.aluminium), axis=-1)
        terms *= (self.water / (1.0 - self._bent(w)))[..., None]
        g = np.concatenate([w[..., None], terms], axis=-1)
        return np.asarray(np.sqrt(np.maximum(np.einsum("...i,ij,...j->...", g, self.covariance, g), 0.0)))

    def find(self, y: Float64, low: float, high: float, steep: bool) -> tuple[Float64, Float64 | None, bool]:
        """As `Lookup.find`: there is no table of its own."""
        x, within = self.solve(y), not y.size or bool(low <= y.min() and y.max() <= high)
        return x, np.asarray(np.abs(1.0 / self.slopes(x))) if steep else None, within

    def values(self, x: ArrayLike) -> Float64:
        """Resistance in ohm at x in degC."""
        return self.water * self._ratio(doubles(x))

    def slopes(self, x: ArrayLike) -> Float64:
        """dR/dt in ohm/K."""
        x = doubles(x)
        w = self._ratio(x)
        return np.asarray(self.water * REFERENCE.slopes(x) / (1.0 - self._bent(w)))

    def _ratio(self, x: Float64) -> Float64:
        """W at x: the solution of W - deviation(W) = Wr, by Newton's steps from Wr."""
        ideal = REFERENCE.values(x)
        w = ideal
        for _ in range(STEPS):
            miss = w - self.deviation(w) - ideal
            with np.errstate(divide="ignore", invalid="ignore"):
                w = w - miss / (1.0 - self._bent(w))
            if not np.any(np.abs(miss) > 1e-15):
                break
        return w

    def _bent(self, w: Float64) -> Float64:
        """d deviation / dW."""
        return self._sum(self.subrange.slopes(w, self.aluminium), w)

    def _sum(self, parts: list[Float64], w: Float64) -> Float64:
        return np.asarray(sum((c * part for c, part in zip(self.coefficients, parts, strict=True)), np.zeros(w.shape)))


def _degrees(point: str | float) -> float:
    if isinstance(point, str):
        if point not in FIXED_POINTS:
            raise FitError(f"no fixed point {point!r}; known are {', '.join(FIXED_POINTS)}")
        return FIXED_POINTS[point]
    return float(point)
