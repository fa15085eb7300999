"""Fit a curve to calibration points: coefficients, covariance, confidence band, and what to think of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..curve import Float64, doubles
from ..errors import CalibrationError, FitError
from ..functions import Parametric
from ..uncertainty.quantile import student
from .diagnostics import Diagnostics, examine
from .errors_in_both import Adjusted, Errors, adjust
from .forms import Form, PolynomialForm
from .robust import MEDIAN_KNOWS, Robust, adjust_robustly

Scatter = Literal["given", "observed"]


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A fitted curve, and all that is known of it."""

    curve: Parametric
    """With its covariance, so that `curve.own(x)` is its standard uncertainty."""
    form: Form
    x: Float64
    y: Float64
    residuals: Float64
    """y less the curve, in `unit_out`; with errors in x along the curve's tangent."""
    weights: Float64
    """1, or less for what a robust fit holds for an outlier."""
    scatter: Scatter
    scale: float
    """Standard deviation of unit weight: of the residuals in units of u_y, or in `unit_out` if none was given."""
    unit_variance: float
    """Smallest mean squared residual, as the information criteria want it: their sum over n."""
    diagnostics: Diagnostics
    arguments: dict[str, Any] = field(repr=False)

    @property
    def coefficients(self) -> Float64:
        """Those of `curve`."""
        return self.curve.coefficients

    @property
    def covariance(self) -> Float64:
        """Of the coefficients."""
        assert self.curve.covariance is not None
        return self.curve.covariance

    @property
    def uncertainties(self) -> Float64:
        """Standard ones of the coefficients."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))

    @property
    def dof(self) -> float:
        """Of the uncertainties: infinite where they follow from those of the points, n - p where from the scatter.

        Fewer where a robust fit had to find the scatter while it did not know yet which points count.
        """
        if self.scatter == "given":
            return inf
        return float(self.diagnostics.dof) * (1.0 if self.arguments["robust"] is None else MEDIAN_KNOWS)

    def k(self, level: float = 0.95) -> float:
        """Coverage factor for a level of confidence."""
        return float(student(level, self.dof))

    def band(self, x: ArrayLike, level: float = 0.95) -> tuple[Float64, Float64]:
        """Ends of the interval in which the true curve lies at each x, with that confidence at that x."""
        middle, half = self.curve.values(x), self.k(level) * self.curve.own(x)
        return middle - half, middle + half

    def prediction(
        self, x: ArrayLike, uncertainty: ArrayLike | None = None, level: float = 0.95
    ) -> tuple[Float64, Float64]:
        """Ends of the interval in which one more reading at each x will lie.

        uncertainty: standard one of that reading; None: the scatter of the points, known if no u_y was given.
        """
        if uncertainty is None:
            if self.arguments["u_y"] is not None:
                raise FitError(f"{self.curve.name}: say the uncertainty of the reading that is to be predicted")
            uncertainty = self.scale
        middle, half = self.curve.values(x), self.k(level) * np.hypot(self.curve.own(x), uncertainty)
        return middle - half, middle + half

    def without(self, point: int) -> Fit:
        """The fit to all other points."""
        n = self.x.size
        if not -n <= point < n:
            raise FitError(f"{self.curve.name}: it has {n} points, counted from 0; there is no {point}")
        keep = np.delete(np.arange(n), point)
        rest = dict(self.arguments)
        for name in ("u_x", "u_y", "correlation"):
            if rest[name] is not None and np.ndim(rest[name]):
                given = doubles(rest[name])
                rest[name] = given[keep] if given.ndim == 1 else given[np.ix_(keep, keep)]
        return fit(self.x[keep], self.y[keep], **rest)

    def __str__(self) -> str:
        c = self.curve
        lines = [
            f"{c.name}: {self.form.label}, {self.x.size} points, {c.valid[0]:g} to {c.valid[1]:g} {c.unit_in}".rstrip()
        ]
        lines += [
            f"  c{i} = {v:.10g} +/- {u:.2g}"
            for i, (v, u) in enumerate(zip(self.coefficients, self.uncertainties, strict=True))
        ]
        at = np.linspace(*c.valid, 101)
        half = self.k() * c.own(at)
        lines.append(f"  confidence band (95 %): {half.min():.2g} to {half.max():.2g} {c.unit_out}".rstrip())
        if self.scatter == "given":
            d = self.diagnostics
            lines.append(f"  chi-square {d.chi_square:.4g} with {d.dof} degrees of freedom")
        else:
            lines.append(
                f"  scatter {self.scale:.3g} with {self.diagnostics.dof} degrees of freedom, k = {self.k():.3g}"
            )
        return "\n".join([*lines, *(f"  look: {remark}" for remark in self.diagnostics.remarks)])


def fit(
    x: ArrayLike,
    y: ArrayLike,
    *,
    form: Form | None = None,
    u_x: ArrayLike | None = None,
    u_y: ArrayLike | None = None,
    correlation: ArrayLike | None = None,
    scatter: Scatter | None = None,
    robust: Robust | None = None,
    valid: tuple[float, float] | None = None,
    unit_in: str = "",
    unit_out: str = "",
    name: str = "fit",
) -> Fit:
    """Fit y = f(x). Raises `FitError` if the points can't tell, or are not what they should be.

    form: a straight line if None.
    u_x, u_y: standard uncertainties: one for all, one for each point, or the covariance matrix of the points, as
        when they share a reference. Without u_y all points weigh the same.
    correlation: of each point's error in x with its own error in y, -1..1.
    scatter: "given": the points' uncertainties are what they are, and the coefficients' follow; "observed": they
        only weigh, and the residuals say how large they are. By default "given" where u_y is.
    robust: weigh outliers down; not with covariance matrices.
    valid: where the curve may be used; from the first to the last x if None.
    """
    arguments = {
        "form": form, "u_x": u_x, "u_y": u_y, "correlation": correlation, "scatter": scatter, "robust": robust,
        "valid": valid, "unit_in": unit_in, "unit_out": unit_out, "name": name,
    }  # fmt: skip
    form = form or PolynomialForm(1)
    x, y = _points(name, "x", x), _points(name, "y", y)
    n = x.size
    if y.size != n:
        raise FitError(f"{name}: {n} x and {y.size} y; one y is needed for each x")
    if scatter not in (None, "given", "observed") or robust not in (None, "huber", "tukey"):
        raise FitError(f'{name}: scatter is "given" or "observed", robust "huber" or "tukey", or None')
    scatter = scatter or ("observed" if u_y is None else "given")
    if u_y is None and (u_x is not None or scatter == "given"):
        raise FitError(f"{name}: say the uncertainty of y too (u_y), so that both can be weighed")
    if n < form.size or (n == form.size and scatter == "observed"):
        more = "" if n < form.size else " and their scatter; state u_y,"
        raise FitError(
            f"{name}: {n} points can't tell the {form.size} coefficients of a {form.label}{more or ';'} take more, "
            "or a simpler form"
        )
    domain = float(x.min()), float(x.max())
    if not domain[0] < domain[1]:
        raise FitError(f"{name}: all points have the same x, {domain[0]:g} {unit_in}; take different ones")
    errors = _errors(name, n, u_x, u_y, correlation)
    weights, factor = np.ones(n), 1.0
    try:
        if robust is None:
            found = adjust(form, x, y, errors, domain)
            mean = found.solution.sum_of_squares / found.solution.dof if found.solution.dof else np.nan
            scale = 1.0 if scatter == "given" else float(np.sqrt(mean))
            factor = scale**2
        else:
            if errors.full:
                raise FitError("a robust fit needs independent points, not a covariance matrix; leave one of them out")
            if n <= form.size:
                raise FitError("outliers can't be told without more points than coefficients")
            known = 1.0 if scatter == "given" else None
            found, weights, scale, factor = adjust_robustly(form, x, y, errors, domain, robust, known)
        curve = form.curve(
            found.solution.coefficients, factor * found.solution.unscaled, domain,
            domain if valid is None else valid, (unit_in, unit_out), name,
        )  # fmt: skip
    except CalibrationError as error:
        raise FitError(str(error) if str(error).startswith(f"{name}: ") else f"{name}: {error}") from None
    diagnostics = examine(found, x, y, weights, scale, scatter == "given", unit_in)
    made = Fit(
        curve, form, x, y, found.misfit, weights, scatter, scale, _unit_variance(found, weights), diagnostics, arguments
    )
    curve.degrees = made.dof
    return made


def _unit_variance(found: Adjusted, weights: Float64) -> float:
    return float(np.mean(weights * np.square(found.white.vector(found.misfit))))


def _points(name: str, what: str, values: ArrayLike) -> Float64:
    try:
        found = np.array(doubles(values))
    except CalibrationError:
        found = np.zeros(0)
    if found.ndim != 1 or not found.size:
        raise FitError(f"{name}: {what} must be a list of numbers")
    if not np.isfinite(found).all():
        bad = int(np.flatnonzero(~np.isfinite(found))[0])
        raise FitError(f"{name}: {what} of point {bad + 1} is {found[bad]}; leave that point out")
    return found


def _errors(name: str, n: int, u_x: ArrayLike | None, u_y: ArrayLike | None, correlation: ArrayLike | None) -> Errors:
    xx, yy = (
        _variance(name, "u_x", n, 0.0 if u_x is None else u_x),
        _variance(name, "u_y", n, 1.0 if u_y is None else u_y),
    )
    r = np.broadcast_to(doubles(0.0 if correlation is None else correlation), (n,))
    if not np.all(np.abs(r) <= 1.0):
        raise FitError(f"{name}: a correlation lies between -1 and 1")
    full = xx.ndim == 2 or yy.ndim == 2
    single = [np.diagonal(v) if v.ndim == 2 else v for v in (xx, yy)]
    xy = r * np.sqrt(single[0] * single[1])
    if full:
        xx, yy = (v if v.ndim == 2 else np.diag(v) for v in (xx, yy))
    return Errors(xx, yy, xy, full)


def _variance(name: str, what: str, n: int, u: ArrayLike) -> Float64:
    found = doubles(u)
    if found.shape not in ((), (n,), (n, n)):
        raise FitError(f"{name}: {what} is one number, one for each of the {n} points, or their covariance matrix")
    if not np.isfinite(found).all() or (found.ndim < 2 and np.any(found < 0.0)):
        raise FitError(f"{name}: {what} must be finite and not negative")
    if found.ndim == 2:
        if np.max(np.abs(found - found.T)) > 1e-9 * np.max(np.abs(found)):
            raise FitError(f"{name}: {what} is a matrix and so must be a covariance: symmetric")
        return 0.5 * (found + found.T)
    return np.broadcast_to(found**2, (n,))
