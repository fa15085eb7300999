"""Series that their pulses leave ambiguous, placed by the clock of a sure one that the same clock stamped.

Over a pause the detector's rate must be known better than the two ends of a short series tell. All of its stamps
do: fitted by a line, n of them over T tell the rate to sqrt(12) sigma / (T sqrt(n)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hal.frames.frame import Float64, Int64
from hal.frames.shifts import RARE, Chain, Combs, Rules

_WANDER = 7e-7  # how far a rate found in a series may be off some seconds later
_OWN = 2e-8  # s, scatter of pulses
_SURE = 4.0  # standard deviations


@dataclass(frozen=True, slots=True)
class _Line:
    """Pulse time of a chain's frames over their stamps: through (d, t), s, with a slope of the offset t - d."""

    d: float
    t: float
    slope: float
    sigma: float  # of the slope


def by_kinship(chains: Sequence[Chain], combs: Combs, d: Float64, rules: Rules) -> None:
    """Settle the ambiguous among the chains of one epoch of the detector's clock; d are all stamps of the run, s."""
    here = [c for c in chains if not c.lost and (c.ambiguous or (c.deficit == 0).sum() == 1)]
    if len(here) < 2 or not any(c.ambiguous for c in here):
        return
    lines = [(c, line) for c in here if (line := _line(c, combs, d, rules)) is not None]
    lines.sort(key=lambda pair: pair[1].d)
    group, ahead = lines[:1], [0]
    for pair in [*lines[1:], None]:
        by = None if pair is None else _apart(pair[1], group[-1][1], pair[0].period, rules)
        if by is None:
            _together([chain for chain, _ in group], np.array(ahead))
            group, ahead = [], []
        if pair is not None:
            group.append(pair)
            ahead.append(0 if by is None else ahead[-1] + by)
    sure = [line for c, line in lines if not c.ambiguous]
    for chain, own in lines:
        if chain.ambiguous and sure:
            shift = _apart(own, min(sure, key=lambda k: abs(k.d - own.d)), chain.period, rules)
            if shift is not None and shift in chain.shifts[chain.deficit == 0]:
                chain.settle(shift)


def _together(chains: Sequence[Chain], ahead: Int64) -> None:
    """Settle chains that shift together: chain i by `ahead[i]` more than the first. What is missed adds up."""
    if len(chains) < 2:
        return
    shifts = np.unique(np.concatenate([c.shifts - by for c, by in zip(chains, ahead, strict=True)]))
    deficit = np.zeros(shifts.size, np.int64)
    for chain, by in zip(chains, ahead, strict=True):
        own = np.full(shifts.size, chain.missable + 1)
        at = np.searchsorted(shifts, chain.shifts - by)
        own[at] = chain.deficit
        deficit += own
    best = int(np.argmin(deficit))
    more = np.delete(deficit, best) - deficit[best]
    moves = (shifts[best] + ahead).tolist()
    if (more < 1).any() or (max(c.swap for c in chains) ** more > RARE).any():
        return
    if all(move == 0 or chain.ambiguous for chain, move in zip(chains, moves, strict=True)):
        for chain, move in zip(chains, moves, strict=True):
            chain.settle(move)


def _apart(own: _Line, near: _Line, period: float, rules: Rules) -> int | None:
    """By how many slots the chain of `own` should be later for the clock to go on from `near`; None: not known."""
    gap = abs(own.d - near.d)
    weights = np.array([1 / own.sigma**2, 1 / near.sigma**2])
    slope = float(np.array([own.slope, near.slope]) @ weights / weights.sum())
    doubt = gap * (_SURE / float(np.sqrt(weights.sum())) + _WANDER) + 0.1 * rules.resolution + 1e-7
    off = (near.t - near.d + slope * (own.d - near.d) - (own.t - own.d)) / period
    return round(off) if doubt < 0.45 * period and abs(off - round(off)) * period < doubt else None


def _line(chain: Chain, combs: Combs, d: Float64, rules: Rules) -> _Line | None:
    rows: list[Int64] = []
    times: list[Float64] = []
    for place in chain.places:
        if place.train >= 0 and place.part.ends:
            train = combs.trains[place.train]
            at = place.part.slot + place.shift
            inside = (at >= 0) & (at < train.time.size)
            rows.append(place.part.rows[inside])
            times.append(train.time[at[inside]])
    if not rows:
        return None
    x = d[np.concatenate(rows)]
    t = np.concatenate(times)
    y = t - x
    # Corrupted stamps out: those that no rate explains, then those beside the line.
    good = np.abs(y - np.median(y)) <= 1e-6 * rules.ppm * np.ptp(t) + 2 * rules.resolution + 1e-6
    for _ in range(2):
        x, y = x[good], y[good]
        if x.size < 20:
            return None
        dx = x - x.mean()
        centre, middle, spread = float(x.mean()), float(y.mean()), float((dx * dx).sum())
        slope = float((dx * (y - middle)).sum()) / spread
        beside = y - middle - slope * dx
        good = np.abs(beside) <= 2 * rules.resolution + 1e-6
    sigma = float(np.hypot(rules.resolution / np.sqrt(12), _OWN) / np.sqrt(spread))
    return _Line(centre, centre + middle, slope, sigma)
