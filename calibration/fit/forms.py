"""The forms of curve that can be fitted, each with what it needs to start and how it becomes a `Curve`.

Coefficients are sought where numbers behave: polynomials in Chebyshev's basis over the range of the points, for
powers of x itself are so alike that double precision soon can't tell them apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import comb

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import ArrayLike

from ..curve import Float64, doubles
from ..errors import CalibrationError, FitError
from ..functions import Chebyshev, Parametric, Polynomial, Rational
from . import linear

Ends = tuple[float, float]
STENCIL = (-2.0, -1.0, 1.0, 2.0)
"""Where a numerical derivative asks, in steps."""
SOUND = 0.01
"""Powers of x must reproduce the curve's uncertainty to this part."""


class Form(ABC):
    """f(x; c) with `size` coefficients c; all arrays may have leading axes, one problem each."""

    label: str
    size: int
    straightforward: bool = True
    """Whether f is linear in its coefficients."""

    @abstractmethod
    def gradients(self, x: Float64, c: Float64, domain: Ends) -> Float64:
        """df/dc: the shape of x with a last axis for the coefficients."""

    @abstractmethod
    def slopes(self, x: Float64, c: Float64, domain: Ends) -> Float64:
        """df/dx."""

    def values(self, x: Float64, c: Float64, domain: Ends) -> Float64:
        """f(x; c)."""
        return np.asarray((self.gradients(x, c, domain) @ c[..., None])[..., 0])

    def start(self, x: Float64, y: Float64, domain: Ends) -> Float64:
        """Coefficients to start from."""
        return np.zeros((*y.shape[:-1], self.size))

    @abstractmethod
    def curve(
        self, c: Float64, covariance: Float64, domain: Ends, valid: Ends, units: tuple[str, str], name: str
    ) -> Parametric:
        """The fitted curve with its covariance."""


class ChebyshevForm(Form):
    """A polynomial as a Chebyshev series over the range of the points: for every degree, above five the only choice."""

    def __init__(self, degree: int) -> None:
        self.degree, self.size = _count("degree", degree), degree + 1
        self.label = f"Chebyshev series of degree {degree}"

    def gradients(self, x: Float64, c: Float64, domain: Ends) -> Float64:
        return np.asarray(chebyshev.chebvander(_k(x, domain), self.degree), np.float64)

    def slopes(self, x: Float64, c: Float64, domain: Ends) -> Float64:
        if self.degree == 0:
            return np.zeros(np.shape(x))
        lower = chebyshev.chebvander(_k(x, domain), self.degree - 1)
        rate = chebyshev.chebder(np.eye(self.size), scl=2.0 / (domain[1] - domain[0]), axis=0)
        return np.asarray((lower @ (rate @ c[..., None]))[..., 0])

    def curve(
        self, c: Float64, covariance: Float64, domain: Ends, valid: Ends, units: tuple[str, str], name: str
    ) -> Parametric:
        return Chebyshev(
            c, domain=domain, valid=valid, unit_in=units[0], unit_out=units[1], name=name, covariance=covariance
        )


class PolynomialForm(ChebyshevForm):
    """c0 + c1 x + c2 x^2 + ...: what certificates and data sheets mostly give."""

    def __init__(self, degree: int) -> None:
        super().__init__(degree)
        self.label = f"polynomial of degree {degree}"

    def curve(
        self, c: Float64, covariance: Float64, domain: Ends, valid: Ends, units: tuple[str, str], name: str
    ) -> Parametric:
        """Raises `FitError` if the powers of x are so alike that their coefficients can't carry the result."""
        powers, spread = as_powers(c, covariance, domain)
        found = Polynomial(powers, valid=valid, unit_in=units[0], unit_out=units[1], name=name, covariance=spread)
        sound = Chebyshev(c, domain=domain, unit_in=units[0], unit_out=units[1], name=name, covariance=covariance)
        at = np.linspace(*domain, 101)
        own, true_own = found.own(at), sound.own(at)
        off = np.abs(found.values(at) - sound.values(at))
        noise = 1e-10 * float(np.max(np.abs(sound.values(at))))
        if np.any(np.abs(own - true_own) > SOUND * true_own + noise) or np.any(off > SOUND * true_own + noise):
            raise FitError(
                f"the powers of x in a {self.label} are so alike from {domain[0]:g} to {domain[1]:g} {units[0]} that "
                "their uncertainties are lost in rounding; take a ChebyshevForm"
            )
        return found


class RationalForm(Form):
    """(p0 + p1 x + ...) / (1 + q1 x + ...): few coefficients for a curve that levels off."""

    straightforward = False

    def __init__(self, above: int, below: int) -> None:
        """above, below: degrees of numerator and denominator; the latter at least 1."""
        self.above, self.below = _count("degree above", above), _count("degree below", below)
        if below < 1:
            raise CalibrationError("a ratio needs a denominator of degree 1 at least; take a polynomial instead")
        self.size = above + 1 + below
        self.label = f"ratio of polynomials of degrees {above} and {below}"

    def _parts(self, x: Float64, c: Float64) -> tuple[Float64, Float64, Float64]:
        powers = np.asarray(np.polynomial.polynomial.polyvander(x, max(self.above, self.below)), np.float64)
        p, q = c[..., : self.above + 1], c[..., self.above + 1 :]
        upper = (powers[..., : self.above + 1] @ p[..., None])[..., 0]
        return powers, np.asarray(upper), np.asarray(1.0 + (powers[..., 1 : self.below + 1] @ q[..., None])[..., 0])

    def gradients(self, x: Float64, c: Float64, domain: Ends) -> Float64:
        powers, upper, lower = self._parts(x, c)
        above = powers[..., : self.above + 1] / lower[..., None]
        return np.concatenate([above, -(upper / lower**2)[..., None] * powers[..., 1 : self.below + 1]], axis=-1)

    def values(self, x: Float64, c: Float64, domain: Ends) -> Float64:
        _, upper, lower = self._parts(x, c)
        return upper / lower

    def slopes(self, x: Float64, c: Float64, domain: Ends) -> Float64:
        powers, upper, lower = self._parts(x, c)
        p, q = c[..., 1 : self.above + 1], c[..., self.above + 1 :]
        rise = (powers[..., : self.above] @ (p * np.arange(1, self.above + 1))[..., None])[..., 0]
        fall = (powers[..., : self.below] @ (q * np.arange(1, self.below + 1))[..., None])[..., 0]
        return np.asarray((rise - upper / lower * fall) / lower)

    def start(self, x: Float64, y: Float64, domain: Ends) -> Float64:
        """From p(x) - y q(x) = y, which is linear, thrice (K. Sanathanan, J. Koerner, IEEE Trans. AC-8 (1963) 56)."""
        x = np.broadcast_to(x, y.shape)
        powers = np.asarray(np.polynomial.polynomial.polyvander(x, max(self.above, self.below)), np.float64)
        columns = np.concatenate([powers[..., : self.above + 1], -y[..., None] * powers[..., 1 : self.below + 1]], -1)
        c, lower = np.zeros(self.size), np.ones(y.shape)
        for _ in range(3):
            c = linear.solve(columns / lower[..., None], y / lower).coefficients
            _, _, lower = self._parts(x, c)
            if np.any(lower == 0.0):
                break
        return c

    def curve(
        self, c: Float64, covariance: Float64, domain: Ends, valid: Ends, units: tuple[str, str], name: str
    ) -> Parametric:
        return Rational(
            c[: self.above + 1], c[self.above + 1 :],
            valid=valid, unit_in=units[0], unit_out=units[1], name=name, covariance=covariance,
        )  # fmt: skip


class FunctionForm(Form):
    """Any f(x, *coefficients) of numpy, such as a physical law; its derivatives are taken numerically."""

    straightforward = False

    def __init__(self, f: Callable[..., ArrayLike], start: Sequence[float], *, label: str = "function") -> None:
        """start: coefficients that are about right; those of 0 are varied by 1e-6 for their derivative."""
        self.f, self.label = f, label
        self._start = np.array(start, np.float64)
        self.size = self._start.size
        if self._start.ndim != 1 or not self.size or not np.isfinite(self._start).all():
            raise CalibrationError(f"{label}: it needs finite coefficients to start from")

    def values(self, x: Float64, c: Float64, domain: Ends) -> Float64:
        found = np.asarray(self.f(x, *(c[..., i, None] for i in range(self.size))), np.float64)
        return np.broadcast_to(found, np.broadcast_shapes(found.shape, np.shape(x)))

    def gradients(self, x: Float64, c: Float64, domain: Ends) -> Float64:
        columns = []
        for i in range(self.size):
            step = 1e-4 * np.where(c[..., i] == 0.0, 1e-2, np.abs(c[..., i]))
            shift = np.zeros(c.shape)
            shift[..., i] = step
            moved = [self.values(x, c + t * shift, domain) for t in STENCIL]
            columns.append(_difference(moved) / step[..., None])
        return np.stack(columns, axis=-1)

    def slopes(self, x: Float64, c: Float64, domain: Ends) -> Float64:
        step = 1e-4 * (domain[1] - domain[0])
        return _difference([self.values(x + t * step, c, domain) for t in STENCIL]) / step

    def start(self, x: Float64, y: Float64, domain: Ends) -> Float64:
        return np.broadcast_to(self._start, (*y.shape[:-1], self.size)).copy()

    def curve(
        self, c: Float64, covariance: Float64, domain: Ends, valid: Ends, units: tuple[str, str], name: str
    ) -> Parametric:
        return Law(self, c, domain, valid=valid, unit_in=units[0], unit_out=units[1], name=name, covariance=covariance)


class Law(Parametric):
    """A fitted function of one's own."""

    def __init__(
        self, form: FunctionForm, c: Float64, domain: Ends, *,
        valid: Ends, unit_in: str, unit_out: str, name: str, covariance: Float64,
    ) -> None:  # fmt: skip
        super().__init__(c, valid=valid, unit_in=unit_in, unit_out=unit_out, name=name, covariance=covariance)
        self.form, self.domain = form, domain

    def values(self, x: ArrayLike) -> Float64:
        x = doubles(x)
        return self.form.values(x.reshape(-1), self.coefficients, self.domain).reshape(x.shape)

    def slopes(self, x: ArrayLike) -> Float64:
        x = doubles(x)
        return self.form.slopes(x.reshape(-1), self.coefficients, self.domain).reshape(x.shape)

    def gradients(self, x: ArrayLike) -> Float64:
        x = doubles(x)
        found = self.form.gradients(x.reshape(-1), self.coefficients, self.domain)
        return found.reshape(*x.shape, self.form.size)


def _difference(f: Sequence[Float64]) -> Float64:
    """df/dt at 0 to fourth order from f at `STENCIL` (M. Abramowitz and I. A. Stegun, 1964, table 25.2)."""
    return np.asarray((8.0 * (f[2] - f[1]) - (f[3] - f[0])) / 12.0)


def _k(x: Float64, domain: Ends) -> Float64:
    """x as -1..1 over the domain."""
    return np.asarray(((x - domain[0]) + (x - domain[1])) / (domain[1] - domain[0]))


def _powers_of(degree: int, domain: Ends) -> list[list[Fraction]]:
    """Coefficients of x^i in T_j of the domain, at [i][j], exactly."""
    low, high = map(Fraction, domain)
    scale, shift = 2 / (high - low), -(high + low) / (high - low)
    in_k = [[Fraction(1)], [Fraction(0), Fraction(1)]]
    while len(in_k) <= degree:
        twice = [Fraction(0), *(2 * v for v in in_k[-1])]
        in_k.append([v - (in_k[-2][i] if i < len(in_k[-2]) else 0) for i, v in enumerate(twice)])
    table = [[Fraction(0)] * (degree + 1) for _ in range(degree + 1)]
    for j in range(degree + 1):
        for m, v in enumerate(in_k[j]):  # v (scale x + shift)^m
            for i in range(m + 1):
                table[i][j] += v * comb(m, i) * scale**i * shift ** (m - i)
    return table


def as_powers(c: Float64, covariance: Float64, domain: Ends) -> tuple[Float64, Float64]:
    """Coefficients of 1, x, x^2, ... and their covariance from those of a Chebyshev series: exact but for rounding."""
    exact = _powers_of(c.size - 1, domain)
    series = [Fraction(float(v)) for v in c]
    powers = [float(sum((t * v for t, v in zip(row, series, strict=True)), Fraction(0))) for row in exact]
    both = _both_sides(exact, [[Fraction(float(v)) for v in row] for row in covariance])
    spread = np.array([[float(v) for v in row] for row in both])
    return np.array(powers), 0.5 * (spread + spread.T)


def _both_sides(t: list[list[Fraction]], c: list[list[Fraction]]) -> list[list[Fraction]]:
    """t c t'."""
    half = [
        [sum((a * b for a, b in zip(row, column, strict=True)), Fraction(0)) for column in zip(*c, strict=True)]
        for row in t
    ]
    return [[sum((a * b for a, b in zip(row, other, strict=True)), Fraction(0)) for other in t] for row in half]


def _count(what: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise CalibrationError(f"the {what} must be a whole number from 0 on, not {value!r}")
    return value
