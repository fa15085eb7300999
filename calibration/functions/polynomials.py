"""Curves of a few coefficients: polynomials, Chebyshev series and ratios of polynomials."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev, polynomial
from numpy.typing import ArrayLike

from ..curve import Float64, doubles
from ..errors import CalibrationError
from .base import Parametric, ends, numbers, one_way

REAL = 1e-6
"""A root so near the real axis (in units of half the range) is tried as a real one; a trial harms nothing."""

NIL = 1e-12
"""A denominator so small beside its greatest value in the valid range is a pole."""


class Polynomial(Parametric):
    """f(x) = c0 + c1 x + c2 x^2 + ..., the lowest power first."""

    def __init__(
        self,
        coefficients: ArrayLike,
        *,
        valid: tuple[float, float],
        unit_in: str,
        unit_out: str,
        name: str = "polynomial",
        covariance: ArrayLike | None = None,
    ) -> None:
        super().__init__(
            coefficients, valid=valid, unit_in=unit_in, unit_out=unit_out, name=name, covariance=covariance
        )
        self._slope: Float64 = np.asarray(polynomial.polyder(self.coefficients), np.float64)

    @property
    def invertible(self) -> tuple[float, float]:
        return one_way(self, _turns(self._slope, self.valid))

    def values(self, x: ArrayLike) -> Float64:
        return _horner(self.coefficients, x)

    def slopes(self, x: ArrayLike) -> Float64:
        return _horner(self._slope, x)

    def gradients(self, x: ArrayLike) -> Float64:
        return _powers(x, self.coefficients.size)


class Chebyshev(Parametric):
    """f(x) = sum of a_i cos(i arccos k) with k = (2 x - low - high) / (high - low), so that the domain is k = -1..1.

    The form in which Lake Shore certificates give thermometers, over log10 of the resistance (see `Logarithmic`):
    Lake Shore, Temperature Measurement and Control Catalog, appendix "Curve fits": Chebyshev polynomials.
    """

    def __init__(
        self,
        coefficients: ArrayLike,
        *,
        domain: tuple[float, float],
        valid: tuple[float, float] | None = None,
        unit_in: str,
        unit_out: str,
        name: str = "Chebyshev series",
        covariance: ArrayLike | None = None,
    ) -> None:
        """valid: within the domain, which it is if None: outside a series runs away."""
        super().__init__(
            coefficients,
            valid=domain if valid is None else valid,
            unit_in=unit_in,
            unit_out=unit_out,
            name=name,
            covariance=covariance,
        )
        self.domain = ends(name, domain)
        if self.valid[0] < self.domain[0] or self.valid[1] > self.domain[1]:
            raise CalibrationError(f"{name}: its valid range {self.valid} leaves the series' domain {self.domain}")
        self._scale = 2.0 / (self.domain[1] - self.domain[0])
        self._slope: Float64 = np.asarray(chebyshev.chebder(self.coefficients, scl=self._scale), np.float64)

    @property
    def invertible(self) -> tuple[float, float]:
        roots = chebyshev.chebroots(chebyshev.chebtrim(self._slope, 0.0)) if self._slope.size > 1 else np.zeros(0)
        near = roots[np.abs(roots.imag) < REAL].real
        return one_way(self, self.domain[0] + (near + 1.0) / self._scale)

    def values(self, x: ArrayLike) -> Float64:
        return np.asarray(chebyshev.chebval(self._k(x), self.coefficients))

    def slopes(self, x: ArrayLike) -> Float64:
        return np.asarray(chebyshev.chebval(self._k(x), self._slope))

    def gradients(self, x: ArrayLike) -> Float64:
        found = chebyshev.chebvander(self._k(x), self.coefficients.size - 1)
        return np.asarray(found.reshape(*np.shape(x), self.coefficients.size), np.float64)

    def _k(self, x: ArrayLike) -> Float64:
        return (doubles(x) - self.domain[0]) * self._scale - 1.0


class Rational(Parametric):
    """f(x) = (p0 + p1 x + ...) / (1 + q1 x + q2 x^2 + ...); the coefficients are p0, p1, ..., q1, q2, ..."""

    def __init__(
        self,
        numerator: ArrayLike,
        denominator: ArrayLike,
        *,
        valid: tuple[float, float],
        unit_in: str,
        unit_out: str,
        name: str = "ratio of polynomials",
        covariance: ArrayLike | None = None,
    ) -> None:
        """denominator: q1, q2, ...; its constant is 1. A pole in the valid range is a `CalibrationError`."""
        self.numerator = numbers(name, "numerator", numerator)
        below = numbers(name, "denominator", denominator)
        super().__init__(
            np.concatenate([self.numerator, below]),
            valid=valid, unit_in=unit_in, unit_out=unit_out, name=name, covariance=covariance,
        )  # fmt: skip
        self.denominator = np.concatenate([[1.0], below])
        self._upper: Float64 = np.asarray(polynomial.polyder(self.numerator), np.float64)
        self._lower: Float64 = np.asarray(polynomial.polyder(self.denominator), np.float64)
        low, high = self.valid
        poles = _turns(self.denominator, self.valid)
        poles = poles[(poles >= low) & (poles <= high)]
        marks = np.concatenate([[low], np.sort(poles), [high]])
        below_at = _horner(self.denominator, np.concatenate([marks, 0.5 * (marks[1:] + marks[:-1])]))
        nil = np.abs(below_at) <= NIL * np.abs(below_at).max()  # a pole of even order: no change of sign
        if nil.any() or np.sign(below_at.min()) != np.sign(below_at.max()):
            where = poles[0] if poles.size else low
            raise CalibrationError(f"{name}: it is infinite near {where:g} {unit_in}, within its valid range")

    @property
    def invertible(self) -> tuple[float, float]:
        turning = polynomial.polysub(
            polynomial.polymul(self._upper, self.denominator), polynomial.polymul(self.numerator, self._lower)
        )
        return one_way(self, _turns(np.asarray(turning, np.float64), self.valid))

    def values(self, x: ArrayLike) -> Float64:
        return np.asarray(_horner(self.numerator, x) / _horner(self.denominator, x))

    def slopes(self, x: ArrayLike) -> Float64:
        below = _horner(self.denominator, x)
        return np.asarray(
            (_horner(self._upper, x) - _horner(self.numerator, x) / below * _horner(self._lower, x)) / below
        )

    def gradients(self, x: ArrayLike) -> Float64:
        x = doubles(x)
        above, below = _horner(self.numerator, x)[..., None], _horner(self.denominator, x)[..., None]
        p = _powers(x, self.numerator.size) / below
        q = -above / below**2 * _powers(x, self.denominator.size)[..., 1:]
        return np.concatenate([p, q], axis=-1)


def _horner(coefficients: Float64, x: ArrayLike) -> Float64:
    return np.asarray(polynomial.polyval(doubles(x), coefficients))


def _powers(x: ArrayLike, count: int) -> Float64:
    """1, x, x^2, ... along a last axis."""
    x = doubles(x)
    return np.asarray(polynomial.polyvander(x, count - 1).reshape(*x.shape, count), np.float64)


def _turns(coefficients: Float64, valid: tuple[float, float]) -> Float64:
    """Real roots of a polynomial in and about a range, sought in Chebyshev's basis on that range: well conditioned."""
    low, high = valid
    inner = polynomial.Polynomial(coefficients)(polynomial.Polynomial([0.5 * (low + high), 0.5 * (high - low)]))
    series = chebyshev.poly2cheb(inner.coef)
    series = chebyshev.chebtrim(series, 1e-15 * float(np.abs(series).max()))
    if series.size < 2:
        return np.zeros(0)
    roots = chebyshev.chebroots(series)
    near = roots[np.abs(roots.imag) < REAL].real
    return np.asarray(0.5 * (low + high) + 0.5 * (high - low) * near)
