"""Exchanges whose ticks can't be right, though each of them looked well enough: one flipped bit, a repeated answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .bounds import above
from .windows import Limits

Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOST = 64
"""Exchanges looked for one by one."""
ROW = 4
"""Exchanges that contradict the others and follow one another: so many aren't corrupted by chance."""
GROUP = 32
"""Neighbours among which a lone one shows."""
SQUEEZE = 0.3
"""Of a small round trip: by less does nobody notice."""
TIMES = 2.0
"""A lone one is further off than so many times the way to the eighth after it."""


def impossible(limits: Limits, rho: float) -> Mask | None:
    """Exchanges that contradict others, given |rate error| <= rho: of each pair the one that contradicts more.

    None if they can't be a few corrupted ones: too many of them, or several in a row.
    """
    gone = np.zeros(limits.xl.size, np.bool_)
    kl, ku = rho * limits.xl, rho * limits.xu
    order = np.argsort(limits.xu, kind="stable")
    for _ in range(MOST):
        on, sorted_on = ~gone, order[~gone[order]]
        over = limits.lower[on] - above(ku[sorted_on], limits.upper[sorted_on], kl[on])
        if not over.size or float(over.max()) <= 0.0:
            return None if _systematic(gone) else gone
        i = int(np.flatnonzero(on)[np.argmax(over)])
        against_i = on & (limits.upper + np.abs(ku - kl[i]) < limits.lower[i])
        j = int(np.argmin(np.where(on, limits.upper + np.abs(ku - kl[i]), np.inf)))
        against_j = on & (limits.lower - np.abs(kl - ku[j]) > limits.upper[j])
        a, b = int(np.count_nonzero(against_i)), int(np.count_nonzero(against_j))
        if a >= b:
            gone[i] = True
        if b >= a:
            gone[j] = True
    return None


def _systematic(gone: Mask) -> bool:
    """More than 5 % are out, or as many next to one another as there are around a moment when the clock was set."""
    out = np.count_nonzero(gone)
    if out > max(2, 0.05 * gone.size) or 2 * out > gone.size:
        return True
    return bool(np.convolve(gone, np.ones(ROW), "valid").max(initial=0.0) >= ROW)


def doubtful(trip: Float64, low: Float64, up: Float64) -> Mask:
    """Lone exchanges, up to three among their neighbours, that squeeze the band as no delay can.

    `trip`: their round trips; `low` and `up`: their limits less the clock's shape. A quick message comes near to
    the others' best; a corrupted tick passes it by far. Four quick ones are believed.
    """
    n = trip.size
    odd = np.zeros(n, np.bool_)
    if n < 12:
        return odd
    size = min(GROUP, n)
    k = min(max(1, n // 50), n - 1)
    squeeze = SQUEEZE * max(float(np.partition(trip, k)[k]), 0.0)
    starts = np.append(np.arange(0, n - size, size // 2), n - size)
    rows = starts[:, None] + np.arange(size)
    for values in (-low, up):
        group = values[rows]
        rank = np.argsort(group, axis=1)
        s = np.take_along_axis(group, rank, axis=1)
        eighth = min(8, size - 4)
        for lone in (1, 2, 3):
            off = s[:, lone] - s[:, lone - 1]
            bad = off > np.maximum(squeeze, TIMES * (s[:, lone + eighth - 1] - s[:, lone]))
            for g in np.flatnonzero(bad).tolist():
                for p in rank[g, :lone].tolist():
                    # Each is judged where it has neighbours on both sides, or at the end.
                    central = size // 4 <= p < size - size // 4
                    if central or (g == 0 and p < size // 4) or (g == len(starts) - 1 and p >= size // 4):
                        odd[rows[g, p]] = True
    return odd
