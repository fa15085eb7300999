"""Linear least squares by orthogonal factors: coefficients, their covariance, and what each point does to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..curve import Float64
from ..errors import FitError

RANK = 1e-13
"""A column whose part that the columns before it can't express is smaller than this says nothing of its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """Of one problem, or of many along leading axes."""

    coefficients: Float64
    """(..., p)."""
    unscaled: Float64
    """(..., p, p): (X' X)^-1 of the weighted design; times the variance of unit weight it is the covariance."""
    residuals: Float64
    """(..., n), weighted: y less the fit, in standard deviations where the weights were 1/u."""
    leverage: Float64
    """(..., n): by how much each fitted value follows its own point, 0 to 1 (the diagonal of the hat matrix)."""

    @property
    def sum_of_squares(self) -> Float64:
        """Of the weighted residuals: chi-square where the weights were 1/u."""
        return np.asarray(np.sum(np.square(self.residuals), axis=-1))

    @property
    def dof(self) -> int:
        """Points less coefficients."""
        return int(self.residuals.shape[-1]) - int(self.coefficients.shape[-1])


def solve(design: Float64, y: Float64) -> Solution:
    """The coefficients c that make |y - design c| least.

    design: (..., n, p) and y: (..., n), both already multiplied by the weights. Columns are scaled to length 1 and
    the problem is factored as Q R, never through X' X, whose condition is the square; one step of refinement
    follows (A. Bjorck, Numerical Methods for Least Squares Problems, 1996, 2.4 and 2.9).
    Raises `FitError` with fewer points than coefficients, or where the points can't tell coefficients apart.
    """
    n, p = design.shape[-2:]
    if n < p:
        raise FitError(f"{n} points can't tell {p} coefficients; take more points, or a form with fewer coefficients")
    length = np.sqrt(np.sum(np.square(design), axis=-2))
    if np.any(length == 0.0) or not np.isfinite(length).all():
        raise FitError("the points say nothing of one of the coefficients; take another form, or other points")
    q, r = np.linalg.qr(design / length[..., None, :])
    if np.any(np.abs(np.diagonal(r, axis1=-2, axis2=-1)) < RANK):
        raise FitError("the points can't tell the coefficients apart; take more different x, or fewer coefficients")
    across = np.swapaxes(q, -1, -2)
    inverse = np.linalg.inv(r) / length[..., :, None]
    c = _times(inverse, _times(across, y))
    c = c + _times(inverse, _times(across, y - _times(design, c)))
    return Solution(
        c, inverse @ np.swapaxes(inverse, -1, -2), y - _times(design, c), np.asarray(np.sum(np.square(q), axis=-1))
    )


def _times(matrix: Float64, vector: Float64) -> Float64:
    return np.asarray((matrix @ vector[..., None])[..., 0])
