"""From a detector's timestamps to exposures on lab time; lone corrupted ones are repaired by number."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hal.clock.envelope import EnvelopeClock
from hal.frames.frame import Float64, FrameTimes, Int64, Mask, Reason
from hal.frames.numbering import Numbered


def expose(
    clock: EnvelopeClock,
    numbered: Numbered,
    ticks: Int64,
    arrivals: Int64,
    exposure_s: Float64 | float,
    *,
    stamp: Literal["start", "stop"] = "start",
) -> FrameTimes:
    """Exposures of n frames in order of reception; all arrays of shape (n,), exposure_s seconds.

    The tick marks the start or the stop of the exposure. A tick that contradicts both neighbours
    while they agree, in a regular train, is replaced from them by its number, and its bound says so.
    Frames without a number, or with a tick that nothing can replace, are invalid with the reason.
    A clock that has seen nothing gives invalid frames (NO_CLOCK).
    """
    c, a = np.asarray(ticks, np.int64), np.asarray(arrivals, np.int64)
    n = c.size
    if a.size != n or len(numbered) != n:
        raise ValueError(f"frames: {n} ticks, {a.size} arrivals, {len(numbered)} numbers; give one of each per frame")
    length = np.broadcast_to(np.rint(np.asarray(exposure_s, np.float64) * 1e9).astype(np.int64), (n,))
    reason = numbered.reason.copy()
    if not clock.running:
        reason[reason == Reason.OK] = Reason.NO_CLOCK
        none = np.zeros(n, np.int64)
        return FrameTimes.of(none, none, valid=np.zeros(n, np.bool_), reason=reason)
    at = clock.to_lab(c, a)
    repaired, extra, suspect = _repair(c, numbered)
    time, bound, sigma, known = at.time, at.bound, at.sigma, at.valid & ~suspect
    if repaired.any():
        # Its neighbours' epoch, not its own: the corrupted tick may have looked like another's.
        again = clock.to_lab(c + extra[0], a)
        more = extra[1] * 1e9 / clock.frequency
        time = np.where(repaired, again.time, time)
        bound = np.where(repaired, again.bound + np.ceil(more).astype(np.int64), bound)
        sigma = np.where(repaired, np.hypot(again.sigma, more / np.sqrt(3.0)), sigma)
        known = np.where(repaired, again.valid, known)
    reason[(reason == Reason.OK) & ~known] = Reason.BAD_TICK
    valid = reason == Reason.OK
    start = np.where(valid, time if stamp == "start" else time - length, 0)
    stop = np.where(valid, start + length, 0)
    return FrameTimes(start, stop, bound, sigma.astype(np.float32), valid, reason)


def _repair(c: Int64, numbered: Numbered) -> tuple[Mask, tuple[Int64, Float64], Mask]:
    """Which ticks to replace, by how much and how surely (ticks), and which are suspect without remedy."""
    n = c.size
    repaired, shift, spread = np.zeros(n, np.bool_), np.zeros(n, np.int64), np.zeros(n)
    suspect = np.zeros(n, np.bool_)
    rows = np.flatnonzero(numbered.valid)
    if rows.size < 5:
        return repaired, (shift, spread), suspect
    steps, ahead = np.diff(c[rows]), np.diff(numbered.index[rows])
    same = (np.diff(numbered.series[rows]) == 0) & (ahead > 0)
    if same.sum() < 4:
        return repaired, (shift, spread), suspect
    period = float(np.median(steps[same] / ahead[same]))
    off = steps - ahead * period
    wild = np.abs(off) > 0.4 * abs(period)
    regular = float(np.mean(wild[same])) < 0.1
    # A lone wild tick breaks the step before and the step after it, and not the one across it.
    pairs = np.flatnonzero(wild[:-1] & wild[1:] & same[:-1] & same[1:])
    for i in pairs.tolist():
        left, here, right = rows[i], rows[i + 1], rows[i + 2]
        across = int(c[right] - c[left])
        backward = not c[left] <= c[here] <= c[right]
        if across <= 0 or not (regular or backward):
            continue
        if regular and abs(across - (ahead[i] + ahead[i + 1]) * period) <= 0.4 * period:
            inside = across * float(ahead[i]) / float(ahead[i] + ahead[i + 1])
            shift[here] = int(c[left]) + round(inside) - int(c[here])
            usual = float(np.median(np.abs(off[same & ~wild]))) if (same & ~wild).any() else 0.0
            repaired[here], spread[here] = True, 1.0 + 6.0 * usual
        elif backward:
            suspect[here] = True
    return repaired, (shift, spread), suspect
