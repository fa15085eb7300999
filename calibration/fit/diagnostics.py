"""What the residuals of a fit say: of the form, of the uncertainties that were stated, and of single points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..curve import Float64
from ..uncertainty.quantile import chi_square_tail, student
from .errors_in_both import Adjusted

DOUBT = 0.01
"""What happens by chance less often than this is worth a remark."""
DECIDES = 0.95
"""A point whose fitted value follows it by this part is checked by no other."""
NOTHING = 1e-12
"""Scatter that is but rounding, as part of y."""
FEW = 8
"""Residuals below which their order says nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Diagnostics:
    """Of a fit of n points, all arrays of length n."""

    chi_square: float
    """Sum of the squared residuals in units of their uncertainties; of unit weights if none were given."""
    dof: int
    p_value: float
    """Probability of a greater chi-square if form and uncertainties are right; NaN where the scatter was observed."""
    leverage: Float64
    """By how much each fitted value follows its own point, 0 to 1."""
    studentised: Float64
    """Residuals in units of their own standard deviations."""
    left_out: Float64
    """Leave-one-out residuals: each y less the curve fitted to all other points, in y's unit; for a form linear in
    its coefficients and without errors in x that is exact, else to first order."""
    cook: Float64
    """Cook's distance: how far the coefficients move without this point (R. D. Cook, Technometrics 19 (1977) 15)."""
    durbin_watson: float
    """Near 2 if neighbouring residuals have nothing in common, near 0 if they are alike."""
    remarks: tuple[str, ...]
    """What deserves a look, one sentence each."""


def examine(
    found: Adjusted, x: Float64, y: Float64, weights: Float64, scale: float, given: bool, unit: str
) -> Diagnostics:
    """scale: standard deviation of unit weight; given: whether uncertainties were stated, and the scatter not asked."""
    solution, n = found.solution, x.size
    p = solution.coefficients.shape[-1]
    dof = n - p
    used = np.sqrt(weights)
    white = found.white.vector(found.misfit) * used
    chi_square = float(np.sum(white**2))
    if found.white.full:
        root_inverse = np.linalg.inv(found.white.root)
        q, _ = np.linalg.qr(found.gradients)
        inner = root_inverse - q @ (q.T @ root_inverse)
        precision = np.sum(inner**2, axis=0)  # diagonal of S^-1 - S^-1 J (J' S^-1 J)^-1 J' S^-1
        pull = root_inverse.T @ white
        leverage = 1.0 - precision / np.sum(root_inverse**2, axis=0)
    else:
        leverage = solution.leverage
        precision = np.maximum(1.0 - leverage, 0.0) / found.white.root**2
        pull = found.misfit / found.white.root**2
    ok = 1.0 - leverage > 1e-9
    safe = np.where(ok, precision, 1.0)
    left_out = np.where(ok, pull / safe, np.nan)
    studentised = np.where(ok, pull / np.sqrt(safe) / (scale or 1.0), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        cook = studentised**2 * leverage / (1.0 - leverage) / p
    p_value = float(chi_square_tail(chi_square, dof)) if given and dof and weights.min() == 1.0 else float("nan")
    ordered = white[np.argsort(x, kind="stable")]
    around = float(np.sum(np.diff(ordered) ** 2) / chi_square) if chi_square > 0.0 else float("nan")
    remarks = [
        *_of_chi_square(chi_square, dof, p_value),
        *([] if given else _of_scatter(found.white.vector(y), scale)),
        *_of_points(x, studentised, leverage, weights, dof, given, unit),
        *_of_order(ordered),
    ]
    return Diagnostics(chi_square, dof, p_value, leverage, studentised, left_out, cook, around, tuple(remarks))


def _of_chi_square(chi_square: float, dof: int, p_value: float) -> list[str]:
    said = f"chi-square is {chi_square:.3g} with {dof} degrees of freedom"
    if p_value < DOUBT:
        return [
            f"the points lie further from the curve than their uncertainties allow ({said}): another form is needed, "
            'or an error was forgotten; scatter="observed" takes the uncertainty from the scatter instead'
        ]
    if p_value > 1.0 - DOUBT:
        return [f"the points lie closer to the curve than their uncertainties suggest ({said}): are they too large?"]
    return []


def _of_scatter(white: Float64, scale: float) -> list[str]:
    if scale > NOTHING * float(np.max(np.abs(white))):
        return []
    return ["the points do not scatter at all, so nothing is known of their errors: state u_y, such as the resolution"]


def _of_points(
    x: Float64, studentised: Float64, leverage: Float64, weights: Float64, dof: int, given: bool, unit: str
) -> list[str]:
    """Outliers beyond what the worst of n normal residuals would be, and points that nothing checks."""
    n = x.size
    if not given and dof > 1:  # external studentisation: the point's own residual must not widen the scale
        left = np.maximum(dof - studentised**2, 1e-12)
        studentised = studentised * np.sqrt((dof - 1) / left)
    far = float(student(1.0 - DOUBT / n, np.inf if given else max(dof - 1, 1)))
    said = [
        f"point {i + 1} (at {x[i]:.6g} {unit}".rstrip() + f") lies {abs(studentised[i]):.3g} standard deviations off"
        for i in np.flatnonzero(np.abs(studentised) > far)
    ]
    said += [
        f"point {i + 1} (at {x[i]:.6g} {unit}".rstrip() + ") was left aside" for i in np.flatnonzero(weights == 0.0)
    ]
    said += [
        f"point {i + 1} (at {x[i]:.6g} {unit}".rstrip() + ") decides the curve there alone: no other point checks it"
        for i in np.flatnonzero(leverage > DECIDES)
    ]
    return said


def _of_order(residuals: Float64) -> list[str]:
    """The runs test (A. Wald and J. Wolfowitz, Ann. Math. Statist. 11 (1940) 147), of too few changes of sign."""
    signs = residuals[residuals != 0.0] > 0.0
    above, n = int(signs.sum()), signs.size
    below = n - above
    if n < FEW or not above or not below:
        return []
    runs = 1 + int(np.count_nonzero(np.diff(signs)))
    expected = 1.0 + 2.0 * above * below / n
    variance = (expected - 1.0) * (expected - 2.0) / (n - 1.0)
    if variance > 0.0 and (runs + 0.5 - expected) / np.sqrt(variance) < -float(student(1.0 - 2.0 * DOUBT)):
        return [f"the residuals keep their sign too long ({runs} runs, {expected:.3g} expected): the form does not fit"]
    return []
