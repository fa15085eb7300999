"""The band about a clock's shape that its exchanges leave open, by what is known of the rate.

Every limit holds where its exchange was made; elsewhere it holds less by as much as the rate may be off in between.
Derivations: `docs/explanation/clocks.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bounds import above, below
from .shape import ENOUGH, Rates
from .steps import steps

Float64 = NDArray[np.float64]

NEAR = 0.3e-6
"""Least doubt about a rate over seconds ..."""
FAR = 0.02e-6
"""... and over many windows."""
HEIGHT = 4.0
"""A line's height is known to so many times `Window.level`."""
NARROW = 0.25
"""Of the smallest round trip. A band narrower than that is one whose rates are less sure than was thought."""
STEADY = 0.75
"""The same of the smallest room that windows leave, if the path did not change: only then it can't be narrower."""


@dataclass(frozen=True, slots=True)
class Narrowest:
    """Limits to theta less the shape, at nodes."""

    opens: bool
    """Nowhere narrower than can be."""
    bottom: Float64
    """If theta follows the shape, ..."""
    top: Float64
    low: Float64
    """... and if it sags as far as it may unseen."""
    up: Float64
    kappa: Float64
    """Doubt about the rate, from each node to the next; of the last: beyond it."""


class Band:
    """Limits low at xl and up at xu, carried from where they are in two ways, of which the narrower counts: over
    seconds the rate may be off by `near`; over many windows by `far` only, but then each line's height counts as well
    (`apart`), and that theta is no line (`sag`)."""

    def __init__(self, xl: Float64, low: Float64, xu: Float64, up: Float64, rates: Rates, rho: float) -> None:
        """`rho`: the datasheet's limit on the rate error."""
        self.xl, self.low, self.xu, self.up = xl, low, xu, up
        self.rho, self.wander = rho, rates.wander
        windows, rate = rates.windows, rates.rate
        poor, length = max(1.0, rho / 1e-4), np.array([w.length for w in windows])
        trip, sag = np.array([max(w.trip, 0.0) for w in windows]), np.array([w.sag for w in windows])
        self.centre = np.array([w.middle for w in windows])
        change = np.abs(np.diff(rate, prepend=rate[0], append=rate[-1]))
        jump = np.maximum(change[1:], change[:-1]) / 2
        # Between windows the rate is taken to change evenly, and not at all beyond the last one's middle.
        curve = np.concatenate([jump[:1], np.abs(np.diff(rate, 2)) / 4, jump[-1:]])[: rate.size]
        # Within a window the rate may wander, but no more than its straightness allows.
        bend = np.minimum(self.wander * length / 2, 4.0 * sag / length)
        unsure = np.minimum(rates.doubt, 2 * rho)
        unsure[-1] += rates.surprise
        self.near, self.far = NEAR * poor + unsure + jump + bend, FAR * poor + unsure + curve
        self.apart = HEIGHT * np.array([w.level for w in windows]) + np.minimum(jump * length / 4, 0.05 * trip)
        self.sag = np.minimum(sag, self.wander * length**2 / 8)
        self.least = NARROW * max(min(w.trip if w.room is None else w.room for w in windows), 0.0)
        told = [w.gap - w.grain for w in windows if w.room is not None and w.j - w.i >= ENOUGH]
        if rates.steady and told:
            self.least = max(self.least, STEADY * min(told))

    def narrowest(self, x: Float64, most: int) -> Narrowest:
        """At nodes x, every limit's x among them. If the band closes, which the truth forbids, all doubts are doubled
        until it opens, at most so many times."""
        for times in 2.0 ** np.arange(most):
            near, far = (np.minimum(times * doubt, 2 * self.rho) for doubt in (self.near, self.far))
            apart = times * np.interp(x, self.centre, self.apart)
            bends = apart + times * np.interp(x, self.centre, self.sag)
            kappa, k = self._spread(x, near)
            low, up = self._carry(x, k)
            _, k = self._spread(x, far)
            straight_low, straight_up = self._carry(x, k)
            bottom, top = np.maximum(low, straight_low - apart), np.minimum(up, straight_up + apart)
            opens = float((top - bottom).min()) >= self.least
            if opens:
                break
        low, up = np.maximum(low, straight_low - bends), np.minimum(up, straight_up + bends)
        return Narrowest(opens, bottom, top, low, up, np.append(kappa, near[-1]))

    def steps(self, x: Float64) -> list[tuple[float, float]]:
        """Between which x the clock was set, if that explains why the band closes: nothing else moves both ways' limits
        alike within a moment, but two ways that change against one another, which none can tell from it."""
        _, k = self._spread(x, np.minimum(self.near, 2 * self.rho))
        at = np.concatenate([self.xl, self.xu])
        none = np.full(self.xu.size, -np.inf), np.full(self.xl.size, np.inf)
        order = np.argsort(at, kind="stable")
        low = np.concatenate([self.low + self.least / 2, none[0]])[order]
        up = np.concatenate([none[1], self.up - self.least / 2])[order]
        found = steps(np.interp(at[order], x, k), low, up, 1.0, first=1, least=ENOUGH // 2)
        return [(float(at[order[step.before]]), float(at[order[step.after]])) for step in found]

    def _spread(self, x: Float64, doubt: Float64) -> tuple[Float64, Float64]:
        """kappa between nodes x and its integral."""
        at, gap = np.interp(x, self.centre, doubt), np.diff(x)
        kappa = np.minimum(np.maximum(at[1:], at[:-1]) + self.wander * gap / 4, 2 * self.rho)
        return kappa, np.concatenate([[0.0], np.cumsum(kappa * gap)])

    def _carry(self, x: Float64, k: Float64) -> tuple[Float64, Float64]:
        """Every limit's x is a node, so that interpolation is exact."""
        lower = below(np.interp(self.xl, x, k), self.low, k)
        return lower, above(np.interp(self.xu, x, k), self.up, k)
