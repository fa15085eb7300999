"""Which form the points deserve: the one that an information criterion likes best, and how the others compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, log
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..errors import FitError
from .fitting import Fit, fit
from .forms import Form

Criterion = Literal["aicc", "bic"]


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Fits of several forms to the same points, the best first."""

    fits: tuple[Fit, ...]
    scores: tuple[float, ...]
    """Of the criterion; smaller is better, only differences mean anything."""
    criterion: Criterion
    refused: tuple[str, ...]
    """Forms that could not be fitted, and why."""

    @property
    def best(self) -> Fit:
        """The fit with the smallest score."""
        return self.fits[0]

    @property
    def shares(self) -> tuple[float, ...]:
        """How the evidence is shared among the forms: exp(-difference / 2), adding up to 1."""
        parts = [exp(-0.5 * (score - self.scores[0])) for score in self.scores]
        return tuple(part / sum(parts) for part in parts)

    def table(self) -> str:
        """For a person."""
        width = max(len(one.form.label) for one in self.fits)
        title = {"aicc": "AICc", "bic": "BIC"}[self.criterion]
        lines = [f"{'form':{width}}  {title + ' above best':>15}  {'share':>6}  {'rms left out':>12}"]
        for one, score, share in zip(self.fits, self.scores, self.shares, strict=True):
            left = float(np.sqrt(np.nanmean(np.square(one.diagnostics.left_out))))
            lines.append(f"{one.form.label:{width}}  {score - self.scores[0]:15.2f}  {share:6.1%}  {left:12.4g}")
        return "\n".join([*lines, *(f"not fitted: {why}" for why in self.refused)])


def select(x: ArrayLike, y: ArrayLike, forms: Sequence[Form], *, by: Criterion = "aicc", **options: Any) -> Selection:
    """Fit every form and rank them; options: those of `fit`.

    aicc: Akaike's criterion with its correction for few points (C. M. Hurvich and C.-L. Tsai, Biometrika 76 (1989)
    297): best in predicting. bic: G. Schwarz, Ann. Statist. 6 (1978) 461: finds the true form if it is among them.
    Raises `FitError` if none can be fitted.
    """
    if by not in ("aicc", "bic"):
        raise FitError(f'the criterion is "aicc" or "bic", not {by!r}')
    if options.get("robust") is not None:
        raise FitError("forms can't be compared by robust fits, each of which leaves other points aside")
    found: list[tuple[float, Fit]] = []
    refused: list[str] = []
    for form in forms:
        try:
            one = fit(x, y, form=form, **options)
        except FitError as error:
            refused.append(str(error))
            continue
        if (score := criterion(one, by)) < inf:
            found.append((score, one))
        else:
            refused.append(f"{form.label}: it has too many coefficients for {one.x.size} points")
    if not found:
        raise FitError("; ".join(refused) or "no form was given")
    found.sort(key=lambda pair: pair[0])
    return Selection(tuple(one for _, one in found), tuple(score for score, _ in found), by, tuple(refused))


def criterion(one: Fit, by: Criterion) -> float:
    """-2 ln L and a price for each parameter; the scatter is one more where it had to be found."""
    n, known = one.x.size, one.scatter == "given"
    parameters = one.form.size + (0 if known else 1)
    least = max(one.unit_variance, float(np.finfo(np.float64).tiny))
    fitness = one.diagnostics.chi_square if known else n * log(least)
    if by == "bic":
        return fitness + parameters * log(n)
    if n - parameters - 1 <= 0:
        return inf
    return fitness + 2.0 * parameters + 2.0 * parameters * (parameters + 1) / (n - parameters - 1)
