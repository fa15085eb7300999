"""The uncertainty of a result computed from uncertain quantities, and the budget that says where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..curve import Bools, Estimate, Float64
from ..errors import CalibrationError
from .component import Quantity, effective_dof
from .first_order import Linear, linearised
from .monte_carlo import Model, Trials, trials
from .quantile import student
from .sources import Correlations, Sources, sources_of
from .table import Line, budget_table, stated

Method = Literal["auto", "first order", "monte carlo"]
AGREE = 0.05
"""Ends of the interval may differ by this part of its half-width before Monte Carlo is what is reported."""


@dataclass(frozen=True, slots=True, eq=False)
class Budget:
    """A result, all arrays of the quantities' common shape."""

    value: Float64
    uncertainty: Float64
    """Standard, k = 1."""
    dof: Float64
    """Effective degrees of freedom of the first-order uncertainty (Welch-Satterthwaite, GUM G.4.1)."""
    low: Float64
    high: Float64
    """Ends of the coverage interval."""
    level: float
    unit: str
    linear: Bools
    """Where the model is straight enough over the uncertainties for the law of propagation (GUM 5.1.2)."""
    by_trials: Bools
    """Where value, uncertainty and interval are those of random trials and not of the law of propagation."""
    first_order: Float64
    """The first-order uncertainty, wherever it is reported or not."""
    trials: Trials | None
    """The random trials of the values that had some, in order; None if none had."""
    lines: tuple[Line, ...]
    contributions: dict[str, Float64] = field(repr=False)
    """Signed contributions of all errors, by name: what `covariance` needs."""
    correlations: Correlations = field(repr=False)
    """Of the quantities that were taken as a whole: each is one error, under its own name."""

    @property
    def expanded(self) -> Float64:
        """Half the width of the coverage interval."""
        return 0.5 * (self.high - self.low)

    @property
    def k(self) -> Float64:
        """Coverage factor: expanded over standard uncertainty; NaN where that is 0."""
        out = np.full(self.value.shape, np.nan)
        return np.asarray(np.divide(self.expanded, self.uncertainty, out=out, where=self.uncertainty > 0.0))

    def estimate(self) -> Estimate:
        """Value and standard uncertainty, with its degrees of freedom."""
        return Estimate(self.value, self.uncertainty, np.zeros(self.value.shape, np.bool_), self.unit, self.dof)

    def table(self, index: tuple[int, ...] = ()) -> str:
        """A table for a person, of one value: `index` says of which if there are many."""
        if len(index) != self.value.ndim:
            raise CalibrationError(f"the budget has values of shape {self.value.shape}; say of which: table((0,))")
        return budget_table(self.lines, self._sums(index), index)

    def __str__(self) -> str:
        return self._sums(())[-1] if not self.value.ndim else f"{self.value.size} values in {self.unit}"

    def _sums(self, index: tuple[int, ...]) -> list[str]:
        value, u, low, high, dof, k = (
            float(v[index]) for v in (self.value, self.uncertainty, self.low, self.high, self.dof, self.k)
        )
        unit = f" {self.unit}" if self.unit else ""
        said = [f"standard uncertainty {u:.3g}{unit}" + (f", {dof:.3g} degrees of freedom" if np.isfinite(dof) else "")]
        if self.by_trials[index]:
            why = "random trials" if self.linear[index] else "the model bends within the uncertainties: random trials"
            said = [
                f"{why} (first order alone: {float(self.first_order[index]):.3g}{unit})",
                f"standard uncertainty {u:.3g}{unit}",
            ]
        half = 0.5 * (high - low)
        if abs(0.5 * (high + low) - value) <= AGREE * half or not half:
            number, spread = stated(value, half)
            said.append(f"{number} +/- {spread}{unit} ({100.0 * self.level:.4g} %, k = {k:.3g})")
        else:
            number, above = stated(value, high - value)
            said.append(f"{number} + {above} - {stated(value, value - low)[1]}{unit} ({100.0 * self.level:.4g} %)")
        return said


def propagate(
    model: Model,
    *quantities: Quantity,
    unit: str = "",
    correlations: Correlations | None = None,
    level: float = 0.95,
    method: Method = "auto",
    seed: int = 0,
) -> Budget:
    """y = model(x1, x2, ...) of uncertain quantities, given in the model's order.

    model: works on arrays of any shape, element by element. Quantities may be numbers or arrays that broadcast.
    correlations: coefficients of pairs of quantities, by name; the quantities are then taken for jointly normal. For
        channels that share a reference name the error they share instead (`Component.shared`).
    method: "first order" is the law of propagation; "monte carlo" are random trials from `seed`. "auto" takes the law
        where the model is straight over the uncertainties, and random trials elsewhere; a single result is in any case
        checked by trials, which are reported if the ends of both intervals differ by more than 5 % of its half-width
        (GUM supplement 1, clause 8), as they do where one error that is not normal prevails.

    Raises `CalibrationError` where the model or the quantities make no sense.
    """
    if method not in ("auto", "first order", "monte carlo"):
        raise CalibrationError(f'the method is "auto", "first order" or "monte carlo", not {method!r}')
    if not quantities:
        raise CalibrationError("there are no quantities to propagate")
    shapes = {
        np.shape(part): one.name
        for one in quantities
        for part in (one.value, *(v for component in one.components for v in (component.uncertainty, component.dof)))
    }
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        told = ", ".join(f"{name} of {shape}" for shape, name in shapes.items() if shape)
        raise CalibrationError(f"the quantities have shapes that do not go together: {told}") from None
    sources = sources_of(quantities, correlations or {}, shape)
    first = linearised(model, sources)
    if not np.isfinite(first.value).all():
        raise CalibrationError(
            "the model has no finite result for the values themselves; are the quantities in its order?"
        )
    if method == "first order" and not np.isfinite(first.signed).all():
        raise CalibrationError("the model has no derivative at the values; use random trials")
    independent = sources.whitened(first.signed)
    u = np.sqrt(np.sum(independent**2, axis=0))
    dof = _dof(first, sources)
    k = student(level, dof)
    value, spread, low, high = first.value.copy(), u.copy(), first.value - k * u, first.value + k * u
    m = value.size
    tried = (
        np.flatnonzero(~first.straight | (m == 1))
        if method == "auto"
        else np.arange(m if method == "monte carlo" else 0)
    )
    tries = trials(model, sources.part(list(map(int, tried))), level, seed) if tried.size else None
    by_trials = np.zeros(m, np.bool_)
    if tries is not None:
        far = np.maximum(np.abs(tries.low - low[tried]), np.abs(tries.high - high[tried]))
        take = (method == "monte carlo") | ~first.straight[tried] | ~(far <= AGREE * k[tried] * u[tried])
        who = tried[take]
        value[who], spread[who], low[who], high[who] = (
            v[take] for v in (tries.value, tries.uncertainty, tries.low, tries.high)
        )
        by_trials[who] = True
    return Budget(
        value=value.reshape(shape),
        uncertainty=spread.reshape(shape),
        dof=dof.reshape(shape),
        low=low.reshape(shape),
        high=high.reshape(shape),
        level=level,
        unit=unit,
        linear=first.straight.reshape(shape),
        by_trials=by_trials.reshape(shape),
        first_order=u.reshape(shape),
        trials=tries,
        lines=_lines(quantities, sources, first, u, shape),
        contributions={
            source.key: row.reshape(shape) for source, row in zip(sources.sources, first.signed, strict=True)
        },
        correlations=dict(correlations or {}),
    )


def covariance(one: Budget, other: Budget) -> Float64:
    """First-order covariance of two results: quantities and components of the same name are the same errors (H.2).

    Raises `CalibrationError` if a quantity of both is correlated with others in one of them only, or differently.
    """
    total = np.zeros(np.broadcast_shapes(one.value.shape, other.value.shape))
    for key in one.contributions.keys() & other.contributions.keys():
        total = total + one.contributions[key] * other.contributions[key]
    known: dict[frozenset[str], float] = {}
    for budget, its in ((one, other), (other, one)):
        whole = {name for pair in budget.correlations for name in pair}
        apart = {line.quantity for line in its.lines} - {name for pair in its.correlations for name in pair}
        if mixed := sorted(whole & apart):
            raise CalibrationError(f"{mixed[0]} has correlations in one of the two results only; state them for both")
        for pair, r in budget.correlations.items():
            if known.setdefault(frozenset(pair), r) != r:
                raise CalibrationError(f"the correlation of {pair[0]} and {pair[1]} is another one in each result")
    for both, r in known.items():
        for a, b in (tuple(both), tuple(both)[::-1]):
            if a in one.contributions and b in other.contributions:
                total = total + r * one.contributions[a] * other.contributions[b]
    return np.asarray(total)


def _dof(first: Linear, sources: Sources) -> Float64:
    """Welch-Satterthwaite over independent sources; correlated quantities count as one."""
    n = sources.grouped
    rows, dofs = list(first.signed[n:]), [source.dof for source in sources.sources[n:]]
    if n:
        rows.append(np.sqrt(np.sum(np.square(sources.whitened(first.signed)[:n]), axis=0)))
        dofs.append(sources.group_dof)
    if not rows:
        return np.full(first.value.shape, np.inf)
    return effective_dof(np.stack(rows, axis=-1), np.stack(dofs, axis=-1))


def _lines(
    quantities: Sequence[Quantity], sources: Sources, first: Linear, u: Float64, shape: tuple[int, ...]
) -> tuple[Line, ...]:
    """One for each component of each quantity, in their order; shares of the variance, which add up to 1."""
    n = sources.grouped
    towards = first.signed.copy()
    if n:
        towards[:n] = sources.matrix @ first.signed[:n]
    lines: list[Line] = []
    for q, one in enumerate(quantities):
        c = first.sensitivities[q]
        value = sources.values[q].reshape(shape)
        found = [(i, source) for i, source in enumerate(sources.sources) if q in source.sizes]
        if not found:
            lines.append(Line(one.name, "exact", one.unit, value, None, "", None, c.reshape(shape), None, None))
        for i, source in found:
            size, component = source.sizes[q], source.parts.get(q)
            part = np.where(size > 0.0, c * size, 0.0)
            share = np.divide(part * towards[i], u**2, out=np.zeros(u.shape), where=u > 0.0)
            name = "correlated" if component is None else component.name
            kind = source.distribution + ("" if component is None else f" {component.kind}")
            if component is not None and component.shared:
                name += f" [{component.shared}]"
            arrays = (v.reshape(shape) for v in (size, source.dof, c, part, share))
            size, dof, c_, part, share = arrays
            lines.append(Line(one.name, name, one.unit, value, size, kind, dof, c_, part, share))
    return tuple(lines)
