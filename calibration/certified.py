"""Curves in certificates: `curve_of` makes the curve that a certificate states, `result_of` what it states of a curve.

A result names `unit_in` and `unit_out`, in most kinds a `valid` range and coefficients with their `covariance`, and
may state a further standard `uncertainty` (of the reference, common to all values) and a `drift_per_year`, both in
`unit_out`. A sensor's curve runs the way its kind does, degC to Ohm for a resistor; readings in ohms get its inverse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from math import inf, isinf
from sys import float_info
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .certificate import Certificate
from .curve import Curve, Estimate, Float64, Outside, effective
from .errors import CalibrationError, CertificateError, NotMonotone
from .functions import Chebyshev, Inverse, Logarithmic, Polynomial, Rational, Spline, Table
from .functions.base import polished
from .gauge import Pirani
from .heater import Heater
from .load import CapacitiveGap
from .rtd import Platinum
from .sprt import Sprt
from .thermistor import Thermistor
from .thermocouple import Thermocouple

PREFIX = "curve."
FROM_QUANTITY = tuple(PREFIX + kind for kind in ("thermocouple", "platinum", "sprt", "heater"))
"""Kinds whose curve runs from what is wanted to what is read: readings need its inverse, always."""
CHECKED = 4097
"""Places at which a curve's slope is looked at."""
WIDEST = 10.0
"""An uncertainty by this factor larger than all that the curve spans tells nothing."""
COLDEST = -274.0
"""degC: below absolute zero, by more than the slip of a fit."""
YEAR = 365.25
"""Days."""
COMMON = ("unit_in", "unit_out", "uncertainty", "drift_per_year", "degrees_of_freedom", "signal")
"""What a result of every kind may say; `signal`: the signal of a lab that it is meant for."""


class Certified(Curve):
    """A certificate's curve, with the doubts that are not in its covariance."""

    def __init__(self, curve: Curve, certificate: Certificate, more: float = 0.0, degrees: float = inf) -> None:
        """more: a standard uncertainty that all values share, in `unit_out`. degrees: of freedom of the covariance."""
        self.curve, self.certificate, self.more, self.degrees = curve, certificate, more, degrees
        self.name, self.unit_in, self.unit_out = certificate.device, curve.unit_in, curve.unit_out
        self.valid = curve.valid
        self._invertible = curve.invertible  # may take a search for roots: once

    @property
    def invertible(self) -> tuple[float, float]:
        return self._invertible

    def values(self, x: ArrayLike) -> Float64:
        return self.curve.values(x)

    def slopes(self, x: ArrayLike) -> Float64:
        return self.curve.slopes(x)

    def own(self, x: ArrayLike) -> Float64:
        return np.hypot(self.curve.own(x), self.more)

    def dof(self, x: ArrayLike) -> Float64 | float:
        return inf if self.degrees == inf else effective(self.degrees, self.curve.own(x), self.own(x))

    def solve(self, y: Float64) -> Float64:
        return self.curve.solve(y)


class Inverted(Inverse):
    """The inverse of a certificate's curve; value and uncertainty from one solution."""

    def __call__(self, x: ArrayLike, uncertainty: ArrayLike = 0.0, *, outside: Outside = "refuse") -> Estimate:
        return self.curve.inverse(x, uncertainty, outside=outside)


class Deviating(Curve):
    """A reference function plus what an individual sensor deviates from it, a polynomial over the same axis."""

    def __init__(self, reference: Curve, deviation: Polynomial) -> None:
        self.reference, self.deviation = reference, deviation
        self.name, self.unit_in, self.unit_out = reference.name, reference.unit_in, reference.unit_out
        self.valid = deviation.valid

    def values(self, x: ArrayLike) -> Float64:
        return np.asarray(self.reference.values(x) + self.deviation.values(x))

    def slopes(self, x: ArrayLike) -> Float64:
        return np.asarray(self.reference.slopes(x) + self.deviation.slopes(x))

    def own(self, x: ArrayLike) -> Float64:
        return np.hypot(self.reference.own(x), self.deviation.own(x))

    def solve(self, y: Float64) -> Float64:
        return polished(self, np.clip(self.reference.solve(y), *self.valid), y)


def curve_of(certificate: Certificate, unit_in: str | None = None, *, on: date | None = None) -> Curve:
    """The curve that a certificate states, checked.

    unit_in: what is to be put in; a curve that gives this unit instead is inverted. None: as the certificate has it.
    on: the day of use, for the drift; today if None. Neither expiry nor serial number are looked at: `check` does.
    Raises `CertificateError`: not of a curve, numbers missing, wrong unit, no inverse.
    """
    kind = certificate.kind.removeprefix(PREFIX)
    if not certificate.kind.startswith(PREFIX) or kind not in _KINDS:
        raise CertificateError(
            f"it is a certificate of kind {certificate.kind!r}, which is no curve; known are "
            + ", ".join(PREFIX + name for name in _KINDS)
        )
    given = _Given(certificate)
    try:
        with np.errstate(all="ignore"):  # numbers beyond all measure: what comes of them is looked at
            curve = _KINDS[kind](given)
            given.complain()
            _check_unit(curve, given)
            _check_monotone(curve)
            more = given.doubt(on or datetime.now(UTC).date())
            certified = Certified(curve, certificate, more, given.degrees())
            _check_sound(certified)
        if unit_in is None or _same(unit_in, curve.unit_in):
            return certified
        if _same(unit_in, curve.unit_out):
            return Inverted(certified)
    except CertificateError:
        raise
    except CalibrationError as error:
        raise CertificateError(f"its curve can't be used: {error}") from None
    except (ArithmeticError, ValueError, IndexError) as error:  # a sum that overflows, a root that can't be found
        raise CertificateError(f"its numbers make no usable curve ({error})") from None
    raise CertificateError(
        f"it takes {curve.unit_in} to {curve.unit_out}, and the readings are in {unit_in or 'no unit'}; "
        "take the certificate of this sensor, or calibrate it"
    )


def result_of(curve: Curve, *, uncertainty: float = 0.0, drift_per_year: float = 0.0) -> tuple[str, dict[str, Any]]:
    """Kind and result of a certificate that states this curve. Raises `CertificateError` for one that none can."""
    kind, says = _described(curve)
    result: dict[str, Any] = {"unit_in": curve.unit_in, "unit_out": curve.unit_out} | says
    covariance = getattr(curve, "covariance", None)
    if covariance is not None:
        result["covariance"] = covariance.tolist()
    degrees = getattr(curve, "degrees", inf)
    more = {
        "uncertainty": uncertainty,
        "drift_per_year": drift_per_year,
        "degrees_of_freedom": 0.0 if isinf(degrees) else degrees,
    }
    for name, value in more.items():
        if value:
            result[name] = float(value)
    return PREFIX + kind, result


# ---------------------------------------------------------------------------- private


def _described(curve: Curve) -> tuple[str, dict[str, Any]]:
    valid = {"valid": [float(end) for end in curve.valid]}
    match curve:
        case Polynomial():
            return "polynomial", valid | {"coefficients": curve.coefficients.tolist()}
        case Chebyshev():
            domain = [float(end) for end in curve.domain]
            return "chebyshev", valid | {"domain": domain, "coefficients": curve.coefficients.tolist()}
        case Rational():
            below = curve.denominator[1:].tolist()
            return "rational", valid | {"numerator": curve.numerator.tolist(), "denominator": below}
        case Heater():
            names = ("resistance", "alpha", "beta", "gamma")
            says = dict(zip(names, curve.coefficients.tolist(), strict=True))
            return "heater", valid | says | {"reference": float(curve.reference)}
        case Thermistor():
            a, b, c = curve.coefficients.tolist()
            return "thermistor", valid | {"a": a, "b": b, "c": c, "d": float(curve.d)}
        case Table() | Spline():
            kind = "table" if isinstance(curve, Table) else "spline"
            says = {"x": curve.x.tolist(), "y": curve.y.tolist()}
            if isinstance(curve, Table):
                says["between"] = curve.between
            if curve.uncertainties is not None:
                says["uncertainties"] = curve.uncertainties.tolist()
            return kind, valid | says
    raise CertificateError(f"{curve.name}: a {type(curve).__name__} can't be put into a certificate; fit one that can")


@dataclass(slots=True)
class _Given:
    """A certificate's result, and what of it was asked for."""

    certificate: Certificate
    asked: tuple[str, ...] = COMMON

    def number(self, name: str, default: float | None = None) -> float:
        self.asked += (name,)
        if default is not None and name not in self.certificate.result:
            return default
        return self.certificate.number(name)

    def whole(self, name: str, default: float | None = None) -> int:
        if not (found := self.number(name, default)).is_integer():
            raise CertificateError(f"its {name} is {found:g}, which is no whole number")
        return int(found)

    def text(self, name: str, default: str | None = None) -> str:
        self.asked += (name,)
        found = self.certificate.result.get(name, default)
        if not isinstance(found, str):
            raise CertificateError(f"its result does not say its {name}, a text")
        return found

    def numbers(self, name: str, default: tuple[float, ...] | None = None) -> list[float]:
        self.asked += (name,)
        found = self.certificate.result.get(name, default)
        if not isinstance(found, list | tuple) or not all(_is_number(value) for value in found):
            raise CertificateError(f"its result has no list of numbers {name!r}")
        return [float(value) for value in found]

    def matrix(self) -> Any:
        self.asked += ("covariance",)
        return self.certificate.result.get("covariance")

    def range(self, name: str = "valid") -> tuple[float, float]:
        ends = self.numbers(name)
        if len(ends) != 2:
            raise CertificateError(f"its {name} must be two numbers, the lowest and the highest")
        return ends[0], ends[1]

    def fit(self) -> dict[str, Any]:
        """What every kind with free units has."""
        return {
            "valid": self.range(), "unit_in": self.text("unit_in"), "unit_out": self.text("unit_out"),
            "name": self.certificate.device,
        }  # fmt: skip

    def doubt(self, day: date) -> float:
        """The standard uncertainty beside that of the coefficients; a drift lies anywhere up to its size."""
        shared, rate = self.number("uncertainty", 0.0), self.number("drift_per_year", 0.0)
        if shared < 0.0 or rate < 0.0:
            raise CertificateError("its uncertainty or its drift is negative")
        years = max(0.0, (day - self.certificate.made.date()).days / YEAR)
        return float(np.hypot(shared, rate * years / np.sqrt(3.0)))

    def degrees(self) -> float:
        """Degrees of freedom of the covariance; those of a certificate that states none are infinite."""
        if (found := self.number("degrees_of_freedom", inf)) <= 0.0:
            raise CertificateError("its degrees_of_freedom must be above 0")
        return found

    def complain(self) -> None:
        if unknown := [name for name in self.certificate.result if name not in self.asked]:
            raise CertificateError(f"its result has {', '.join(unknown)}, which a {self.certificate.kind} has not")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) > float_info.max


def _same(one: str, other: str) -> bool:
    return one == other or one.lower() == other.lower() == "ohm"


def _check_unit(curve: Curve, given: _Given) -> None:
    for name, unit in (("unit_in", curve.unit_in), ("unit_out", curve.unit_out)):
        if not _same(said := given.text(name), unit):
            raise CertificateError(
                f"its {name} is {said!r}, and a {given.certificate.kind} has {unit!r} there; it was not made rightly"
            )


def _check_monotone(curve: Curve) -> None:
    """A sensor that gives the same reading twice tells nothing, whichever way it is asked."""
    try:
        low, high = curve.invertible
    except NotMonotone as error:
        raise CertificateError(f"its coefficients make no usable curve: {error}") from None
    slopes = curve.slopes(np.linspace(low, high, CHECKED)[1:-1])
    if not np.all(np.isfinite(slopes)) or (np.any(slopes > 0.0) and np.any(slopes < 0.0)) or not np.any(slopes):
        raise CertificateError(
            f"its coefficients make no usable curve: it turns back between {low:g} and {high:g} {curve.unit_in}"
        )


def _check_sound(curve: Curve) -> None:
    """What no sensor can mean, though it could be worked out."""
    places = np.linspace(*curve.valid, 65)
    values, own = curve.values(places), curve.own(places)
    if not (np.isfinite(values).all() and np.isfinite(own).all()):
        raise CertificateError("its numbers make no usable curve: values or uncertainties in its range are infinite")
    for unit, temperatures in ((curve.unit_in, places), (curve.unit_out, values)):
        if unit == "degC" and temperatures.min() < COLDEST:
            raise CertificateError(f"its curve goes down to {temperatures.min():.4g} degC, below absolute zero")
    if own.min() > WIDEST * np.ptp(values):
        raise CertificateError(
            f"its uncertainty is {own.min():.3g} {curve.unit_out} at least, and its whole curve spans "
            f"{np.ptp(values):.3g} {curve.unit_out}: it tells nothing"
        )


def _logarithmic(given: _Given, make: Callable[[dict[str, Any]], Curve]) -> Curve:
    """A curve over, or of, a decimal logarithm, if the result says `logarithm = "x"` or `"y"`; valid is of the log."""
    fit, axis = given.fit(), given.text("logarithm", "")
    if not axis:
        return make(fit)
    outer = "unit_in" if axis == "x" else "unit_out"
    unit = fit[outer]
    return Logarithmic(make(fit | {outer: f"log10 {unit}"}), axis=axis, unit=unit)  # type: ignore[arg-type]


def _deviating(given: _Given, reference: Curve) -> Curve:
    terms = given.numbers("deviation", ())
    if not terms:
        return reference
    valid, (low, high) = given.range(), reference.valid
    if not low <= valid[0] < valid[1] <= high:
        raise CertificateError(
            f"its valid range is {valid[0]:g} to {valid[1]:g}, and a {reference.name} is one from {low:g} to {high:g} "
            f"{reference.unit_in} only"
        )
    return Deviating(reference, Polynomial(
        terms, valid=valid, unit_in=reference.unit_in, unit_out=reference.unit_out, name=reference.name,
        covariance=given.matrix(),
    ))  # fmt: skip


def _polynomial(given: _Given) -> Curve:
    coefficients, covariance = given.numbers("coefficients"), given.matrix()
    return _logarithmic(given, lambda fit: Polynomial(coefficients, covariance=covariance, **fit))


def _chebyshev(given: _Given) -> Curve:
    coefficients, domain, covariance = given.numbers("coefficients"), given.range("domain"), given.matrix()
    return _logarithmic(given, lambda fit: Chebyshev(coefficients, domain=domain, covariance=covariance, **fit))


def _rational(given: _Given) -> Curve:
    above, below, covariance = given.numbers("numerator"), given.numbers("denominator"), given.matrix()
    return _logarithmic(given, lambda fit: Rational(above, below, covariance=covariance, **fit))


def _table(given: _Given) -> Curve:
    between, points = given.text("between", "smooth"), _points(given)
    return _logarithmic(given, lambda fit: Table(between=between, **points, **fit))  # type: ignore[arg-type]


def _spline(given: _Given) -> Curve:
    points = _points(given)
    return _logarithmic(given, lambda fit: Spline(**points, **fit))


def _points(given: _Given) -> dict[str, Any]:
    points: dict[str, Any] = {"x": given.numbers("x"), "y": given.numbers("y")}
    return points | {"uncertainties": given.numbers("uncertainties", ()) or None}


def _thermocouple(given: _Given) -> Curve:
    tolerance: Any = given.whole("class", 0.0) or None
    return _deviating(given, Thermocouple(given.text("type"), tolerance=tolerance))


def _platinum(given: _Given) -> Curve:
    made: dict[str, Any] = {name: given.number(name) for name in ("a", "b", "c") if name in given.certificate.result}
    made |= {"tolerance": given.text("class", "") or None, "element": given.text("element", "wire")}
    return _deviating(given, Platinum(given.number("nominal", 100.0), **made))


def _sprt(given: _Given) -> Curve:
    aluminium = given.number("aluminium", 0.0) or None
    return Sprt(
        given.whole("subrange"), given.number("water"), given.numbers("coefficients", ()), aluminium=aluminium,
        covariance=given.matrix(),
    )  # fmt: skip


def _named(given: _Given, make: Callable[..., Curve], needed: tuple[str, ...], **optional: float) -> Curve:
    """A curve whose coefficients have names."""
    values = [given.number(name) for name in needed]
    more = {name: given.number(name, default) for name, default in optional.items()}
    return make(*values, valid=given.range(), name=given.certificate.device, covariance=given.matrix(), **more)


_KINDS: Mapping[str, Callable[[_Given], Curve]] = {
    "polynomial": _polynomial,
    "chebyshev": _chebyshev,
    "rational": _rational,
    "table": _table,
    "spline": _spline,
    "thermocouple": _thermocouple,
    "platinum": _platinum,
    "sprt": _sprt,
    "thermistor": lambda g: _named(g, Thermistor, ("a", "b", "c"), d=0.0),
    "heater": lambda g: _named(g, Heater, ("resistance", "alpha"), beta=0.0, gamma=0.0, reference=20.0),
    "pirani": lambda g: _named(g, Pirani, ("empty", "full", "middle")),
    "capacitive": lambda g: _named(g, CapacitiveGap, ("area",), stray=0.0, permittivity=1.0),
}
