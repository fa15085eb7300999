"""Least squares with errors in x and y: the true points lie on the curve, the measured ones near them.

Minimised is the sum over all points of d' V^-1 d, d being what was measured less a true point (xi, f(xi)) and V the
covariance of both coordinates. The true points are eliminated: linearised about the present ones, a point's misfit
r = y - f(xi) - f'(xi) (x - xi) has the variance S = u_y^2 - 2 f' u_xy + f'^2 u_x^2, so each step is a weighted linear
problem in the coefficients alone, and its fixed point fulfils the conditions of the full one (W. E. Deming,
Statistical Adjustment of Data, 1943; for straight lines D. York et al., Am. J. Phys. 72 (2004) 367, and
ISO/TS 28037:2010, clauses 7, 8 and 10). Without errors in x it is ordinary weighted least squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..curve import Float64
from ..errors import FitError
from . import linear
from .forms import Ends, Form

STEPS = 200
HALVINGS = 12
INNER = 50
"""Steps towards the true points for given coefficients; they converge linearly, mostly within five."""
SMALL = 1e-11
"""Steps that have become this small a part of the range of y, or of x, end the search."""


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """Variances of the points: one number for each point (last axis), or covariance matrices (last two)."""

    xx: Float64
    yy: Float64
    xy: Float64
    """Covariance of each point's own x and y: never a matrix."""
    full: bool

    def misfit(self, slope: Float64) -> Float64:
        """S: variances or covariance matrix of r."""
        if not self.full:
            return np.asarray(self.yy - 2.0 * slope * self.xy + slope**2 * self.xx)
        own = 2.0 * slope * self.xy
        return self.yy + slope[..., :, None] * self.xx * slope[..., None, :] - own[..., None] * np.eye(own.shape[-1])

    def move(self, slope: Float64, weighted: Float64) -> Float64:
        """By how much the true x lies below the measured one; weighted: S^-1 r."""
        if not self.full:
            return (self.xy - slope * self.xx) * weighted
        return np.asarray(self.xy * weighted - (self.xx @ (slope * weighted)[..., None])[..., 0])

    @property
    def in_x(self) -> bool:
        """Whether there are any."""
        return bool(np.any(self.xx))


class White:
    """Takes S out of misfits and gradients: afterwards they are independent, of unit variance."""

    def __init__(self, variance: Float64, full: bool) -> None:
        self.full = full
        if not full:
            if not np.all(variance > 0.0):
                raise FitError("a point without any uncertainty can't be weighed; give it one, in y or in x")
            self.root = np.sqrt(variance)
            return
        try:
            self.root = np.linalg.cholesky(variance)
        except np.linalg.LinAlgError:
            raise FitError(
                "the covariance of the points is singular: some difference of points would have no uncertainty at all; "
                "add what each point has of its own, such as its repeatability"
            ) from None

    def vector(self, r: Float64) -> Float64:
        """Of misfits."""
        return r / self.root if not self.full else np.asarray(np.linalg.solve(self.root, r[..., None])[..., 0])

    def matrix(self, g: Float64) -> Float64:
        """Of gradients."""
        return g / self.root[..., None] if not self.full else np.asarray(np.linalg.solve(self.root, g))

    def back(self, white: Float64) -> Float64:
        """S^-1 r of the white misfits."""
        if not self.full:
            return white / self.root
        return np.asarray(np.linalg.solve(np.swapaxes(self.root, -1, -2), white[..., None])[..., 0])


@dataclass(frozen=True, slots=True, eq=False)
class Adjusted:
    """Coefficients and what belongs to them."""

    solution: linear.Solution
    """Its coefficients are f's, its residuals and leverages those of the white misfits."""
    true_x: Float64
    misfit: Float64
    """r: residuals in y; with errors in x along the curve's tangent."""
    white: White
    gradients: Float64
    """White ones."""


def adjust(
    form: Form, x: Float64, y: Float64, errors: Errors, domain: Ends, weights: Float64 | None = None
) -> Adjusted:
    """Fit. x, y: (..., n), one problem for each of the leading axes; weights: 0..1 beside those of the errors.

    Raises `FitError` if it doesn't converge, or the points don't determine the coefficients.
    """
    root = None if weights is None else np.sqrt(weights)
    c = form.start(x, y, domain)
    if form.straightforward and errors.in_x:  # the slopes it starts from must be about right
        c = linear.solve(form.gradients(x, c, domain), y).coefficients
    true_x, merit = _meet(form, x, y, c, errors, domain, root)
    span = np.ptp(y, axis=-1)
    for _ in range(STEPS):
        if not np.isfinite(c).all() or not np.isfinite(merit).all():
            break
        white, gradients, r = _linearised(form, x, y, true_x, c, errors, domain)
        solution = _solve(white.matrix(gradients), white.vector(r), root)
        step = solution.coefficients
        if form.straightforward and not errors.in_x:
            return _finished(form, x, y, c + step, x, errors, domain, root)
        factor = np.ones(merit.shape)
        small = np.max(np.abs((gradients @ step[..., None])[..., 0]), axis=-1) <= SMALL * span
        for _ in range(HALVINGS):
            new = c + factor[..., None] * step
            with np.errstate(all="ignore"):
                new_x, new_merit = _meet(form, x, y, new, errors, domain, root)
            worse = ~(small | (new_merit <= merit * (1.0 + 1e-13) + 1e-300))
            if not worse.any():
                break
            factor = np.where(worse, 0.5 * factor, factor)
        moved = np.max(np.abs((gradients @ (new - c)[..., None])[..., 0]), axis=-1)
        better = ~worse
        c = np.where(better[..., None], new, c)
        true_x, merit = np.where(better[..., None], new_x, true_x), np.where(better, new_merit, merit)
        if np.all((moved <= SMALL * span) | worse):
            return _finished(form, x, y, c, true_x, errors, domain, root)
    raise FitError(
        f"the fit of a {form.label} does not converge; is it the right form, and are the coefficients to start from "
        "about right?"
    )


def _linearised(
    form: Form, x: Float64, y: Float64, true_x: Float64, c: Float64, errors: Errors, domain: Ends
) -> tuple[White, Float64, Float64]:
    slope = form.slopes(true_x, c, domain) if errors.in_x else np.zeros(x.shape)
    r = y - form.values(true_x, c, domain) - slope * (x - true_x)
    return White(errors.misfit(slope), errors.full), form.gradients(true_x, c, domain), r


def _meet(
    form: Form, x: Float64, y: Float64, c: Float64, errors: Errors, domain: Ends, root: Float64 | None
) -> tuple[Float64, NDArray[np.float64]]:
    """The true x for given coefficients, and the sum of squares with them."""
    true_x = x
    for _ in range(INNER):
        slope = form.slopes(true_x, c, domain) if errors.in_x else np.zeros(x.shape)
        r = y - form.values(true_x, c, domain) - slope * (x - true_x)
        white = White(errors.misfit(slope), errors.full)
        unit = white.vector(r)
        new = x - errors.move(slope, white.back(unit)) if errors.in_x else x
        done = not errors.in_x or np.all(np.abs(new - true_x) <= SMALL * (domain[1] - domain[0]))
        true_x = new
        if done:
            break
    return true_x, np.asarray(np.sum(np.square(unit if root is None else unit * root), axis=-1))


def _solve(design: Float64, r: Float64, root: Float64 | None) -> linear.Solution:
    return linear.solve(design, r) if root is None else linear.solve(design * root[..., None], r * root)


def _finished(
    form: Form, x: Float64, y: Float64, c: Float64, true_x: Float64, errors: Errors, domain: Ends, root: Float64 | None
) -> Adjusted:
    white, gradients, r = _linearised(form, x, y, true_x, c, errors, domain)
    design, unit = white.matrix(gradients), white.vector(r)
    last = _solve(design, unit, root)
    solution = linear.Solution(c + last.coefficients, last.unscaled, last.residuals, last.leverage)
    return Adjusted(solution, true_x, r - (gradients @ last.coefficients[..., None])[..., 0], white, design)
