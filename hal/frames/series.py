"""Received frames sorted into series: which exposure of its series each one is, as far as the detector says."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hal.frames.comb import breaks, pitch
from hal.frames.frame import Codes, Float64, Int64, Mask, Reason

_FEW = 5  # frames on either side that decide whether a counter really fell back
_SILENCE = 50  # periods without a delivery, after which counting by stamps begins anew

Counts = Literal["acquisition", "series", "deliveries"]


@dataclass(frozen=True, slots=True)
class Frames:
    """What a detector delivered: n frames in order of reception, arrays of shape (n,).

    arrival      int64 ns lab time of the last byte
    exposure     s, array or scalar
    ticks        int64 detector time stamps of the exposures; None: the detector gives none
    frequency    ticks per second
    resolution   s: stamps are rounded down to multiples of it (at least one tick)
    ppm          limit of the detector clock's rate error against lab time
    stamped      mask: the frame has a stamp; None: all have
    number       int64 frame numbers, rolled-over ones already unwrapped; None: only deliveries count
    counts       what they count: exposures of the whole "acquisition" (from 0 or `first`), exposures of
                 the "series" (begins anew with each), or mere "deliveries", which drops don't show in
    first        the counter's value for the first exposure
    period       s between exposures, roughly (1e-3): regular trains; or the usual one of irregular
                 trains. None: taken from the pulses.
    regular      exposures follow one another by the period within a series
    per_series   exposures in a series; None: unknown
    min_latency  s from the end of an exposure to the arrival of the promptest frame, as far as known:
                 none arrives earlier, some hardly later. None: unknown; then frames that nothing but
                 their arrival could place are ambiguous.
    min_latency_sigma  s, its standard uncertainty
    armed        int64 ns lab time: the detector was told to film then, and its pulses were captured from
                 before on, so that no frame was exposed earlier. None: not known.
    """

    arrival: Int64
    exposure: Float64 | float
    ticks: Int64 | None = None
    frequency: float = 1e9
    resolution: float = 0.0
    ppm: float = 100.0
    stamped: Mask | None = None
    number: Int64 | None = None
    counts: Counts = "acquisition"
    first: int = 0
    period: float | None = None
    regular: bool = True
    per_series: int | None = None
    min_latency: float | None = None
    min_latency_sigma: float = 0.0
    armed: int | None = None

    def __post_init__(self) -> None:
        n = np.asarray(self.arrival).shape
        if np.asarray(self.arrival).dtype != np.int64 or len(n) != 1:
            raise ValueError("frames: arrival must be one-dimensional int64 ns of lab time; floats can't hold it")
        for name in ("exposure", "ticks", "stamped", "number"):
            got = getattr(self, name)
            if got is not None and np.shape(got) != n and not (name == "exposure" and np.shape(got) == ()):
                raise ValueError(f"frames: {name} has shape {np.shape(got)}, arrival {n}; give one per frame")
        if not (self.frequency > 0 and self.ppm > 0 and self.resolution >= 0):
            raise ValueError("frames: frequency and ppm must be positive, resolution not negative; check the driver")
        if (self.period is not None and not self.period > 0) or (self.per_series is not None and self.per_series < 1):
            raise ValueError("frames: period must be positive and per_series at least 1, or None if unknown")
        if self.counts not in ("acquisition", "series", "deliveries"):
            raise ValueError(f"frames: counts is {self.counts!r}; use 'acquisition', 'series' or 'deliveries'")
        if not self.min_latency_sigma >= 0:
            raise ValueError("frames: min_latency_sigma is negative or not a number; pass seconds")
        if not np.all(np.asarray(self.exposure) >= 0):
            raise ValueError("frames: an exposure is negative or not a number; pass seconds")

    def __len__(self) -> int:
        return int(self.arrival.size)


@dataclass(frozen=True, slots=True)
class Part:
    """Frames that count on from one another: rows (ascending in slot, none twice), their slots.

    slot     exposure number, from 0 at the series' first exposure (at the first frame if not known)
    extent   (first slot, number of slots) in which all pulses of the series are expected
    ends     (slot, detector time in s) at the beginning, in the middle and at the end; () without stamps
    ordinal  counts the series of the run
    """

    rows: Int64
    slot: Int64
    extent: tuple[int, int]
    ends: tuple[tuple[float, float], ...]
    ordinal: int = 0


def falls(x: Float64 | Int64, few: int = _FEW) -> Int64:
    """Indices of the first after a counter fell back for good, not for a late, repeated or corrupted frame."""
    out: list[int] = []
    for i in (np.flatnonzero(np.diff(x) < 0) + 1).tolist():
        if np.median(x[i : i + few]) < np.median(x[max(0, i - few) : i]) and (not out or i - out[-1] >= few):
            out.append(i)
    return np.array(out, np.int64)


def _begun_anew(number: Int64, d: Float64, usable: Mask, period: float) -> Int64:
    """Where numbers fell although stamps (s) went on: a series begins, however short, or that number is corrupted.

    Corrupted is a number if the frames on either side of it go on from one another.
    """
    at = np.flatnonzero((np.diff(number) <= 0) & (np.diff(d) > 0.5 * period) & usable[1:] & usable[:-1]) + 1
    left, right = at - 1, np.minimum(at + 1, number.size - 1)
    ahead = number[right] - number[left]
    goes_on = (right > at) & (ahead > 0) & (np.abs(d[right] - d[left] - ahead * period) < 0.4 * period)
    return at[~goes_on]


def outliers(r: Float64, slack: float) -> Mask:
    """Frames whose residual lies further than slack beside the median of five; only around jumps it is computed."""
    bad = np.zeros(r.size, np.bool_)
    if r.size < 3:
        return bad
    jump = np.flatnonzero(np.abs(np.diff(r)) > slack)
    near = np.unique(np.clip(np.concatenate([jump, jump + 1]), 0, r.size - 1))
    width = min(_FEW, r.size - (1 - r.size % 2))
    at = np.clip(near - width // 2, 0, r.size - width)
    around = np.median(r[at[:, None] + np.arange(width)], axis=1) if near.size else near
    bad[near] = np.abs(r[near] - around) > slack
    return bad


def parts_of(
    frames: Frames, rows: Int64, d: Float64 | None, usable: Mask, period: float, reason: Codes, twin: Int64
) -> list[Part]:
    """Sort the frames `rows` (one epoch of the detector's clock, in order of reception) into parts.

    d are their stamps in s (None: no stamps), usable says which may be trusted. Writes DUPLICATE and
    BAD_TICK into reason, and a repeated frame's original into twin.
    """
    if frames.number is None or frames.counts == "deliveries":
        return [] if d is None else _by_stamp(frames, rows, d, usable, period, reason, twin)
    number = frames.number[rows] - frames.first
    if d is not None:
        keep = _repeated(rows, d, number, usable, reason, twin)
        rows, d, number, usable = rows[keep], d[keep], number[keep], usable[keep]
    few = _FEW if frames.per_series is None else int(np.clip(frames.per_series // 2, 1, _FEW))
    run = np.zeros(rows.size, np.int64)
    run[falls(number, few)] = 1
    if d is not None:
        run[_begun_anew(number, d, usable, period)] = 1
    run = np.cumsum(run)
    slot, group = number, run
    if frames.counts == "acquisition" and frames.per_series is not None:
        group, slot = _serial(number // frames.per_series, run), number % frames.per_series
    order = np.lexsort((slot, group)) if (np.diff(group * (1 << 20) + slot) <= 0).any() else np.arange(rows.size)
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    out: list[Part] = []
    for at in np.split(order, cuts):
        if not at.size:
            continue
        # Sorted by slot; of a slot received twice, the one received first counts.
        again = np.concatenate([[False], np.diff(slot[at]) == 0])
        at = _without_repeats(rows, at, again, reason, twin)
        if at.size:
            ordinal = int(group[at[0]])
            out += _whole_or_split(
                frames, rows[at], slot[at], None if d is None else d[at], usable[at], period, reason, ordinal
            )
    return out


def _serial(within: Int64, run: Int64) -> Int64:
    """The number of each frame's series in the acquisition; where the numbers began anew, it is the next one's."""
    out = within.copy()
    for i in (np.flatnonzero(np.diff(run)) + 1).tolist():
        out[i:] = within[i:] + int(np.median(out[max(0, i - _FEW) : i])) + 1
    return out


def _repeated(rows: Int64, d: Float64, number: Int64, usable: Mask, reason: Codes, twin: Int64) -> Mask:
    """Frames that say what an earlier one said, number and stamp alike, are left out: which to keep."""
    keep = np.ones(rows.size, np.bool_)
    back = np.diff(number) <= 0
    if not back.any():
        return keep
    order = np.lexsort((number, d))
    same = (np.diff(d[order]) == 0) & (np.diff(number[order]) == 0) & usable[order[1:]] & usable[order[:-1]]
    first = order[np.maximum.accumulate(np.where(np.concatenate([[True], ~same]), np.arange(order.size), 0))]
    again = np.concatenate([[False], same])
    keep[order[again]] = False
    reason[rows[order[again]]] = Reason.DUPLICATE
    twin[rows[order[again]]] = rows[first[again]]
    return keep


def _without_repeats(rows: Int64, at: Int64, again: Mask, reason: Codes, twin: Int64) -> Int64:
    reason[rows[at[again]]] = Reason.DUPLICATE
    kept = at[~again]
    twin[rows[at[again]]] = rows[kept[np.cumsum(~again)[again] - 1]]
    return kept


def _slack(frames: Frames, period: float) -> float:
    return 0.4 * period + 1.5 * frames.resolution


def _whole_or_split(
    frames: Frames,
    rows: Int64,
    slot: Int64,
    d: Float64 | None,
    usable: Mask,
    period: float,
    reason: Codes,
    ordinal: int,
) -> list[Part]:
    """One part, or several if the stamps show pauses between its frames."""
    known = frames.counts == "series" or frames.per_series is not None
    if d is None:
        return [_part(frames, rows, slot, None, usable, period, known, ordinal)]
    trusted = np.flatnonzero(usable)
    if trusted.size < 3:
        return [_part(frames, rows, slot, d, usable, period, known, ordinal)]
    beside = d[trusted] - period * slot[trusted]
    bad = outliers(beside, _slack(frames, period))
    usable = usable.copy()
    usable[trusted[bad]] = False
    astray = _out_of_line(rows, slot, trusted[bad])
    reason[rows[astray]] = Reason.BAD_NUMBER
    trusted, beside = trusted[~bad], beside[~bad]
    if astray.size:
        keep = np.ones(rows.size, np.bool_)
        keep[astray] = False
        trusted = (np.cumsum(keep) - 1)[trusted]
        rows, slot, d, usable = rows[keep], slot[keep], d[keep], usable[keep]
    drift = 1e-6 * frames.ppm * np.diff(d[trusted])
    pauses = np.flatnonzero(np.abs(np.diff(beside)) > _slack(frames, period) + np.abs(drift))
    if not pauses.size:
        return [_part(frames, rows, slot, d, usable, period, known, ordinal)]
    out = []
    bounds = [0, *(trusted[pauses + 1]).tolist(), rows.size]
    for low, high in itertools.pairwise(bounds):
        here = slice(low, high)
        out.append(_part(frames, rows[here], slot[here], d[here], usable[here], period, False, ordinal))
    return out


def _out_of_line(rows: Int64, slot: Int64, which: Int64) -> Int64:
    """Of the frames with a contradictory stamp, those that were not received between their numbers' neighbours."""
    if not which.size:
        return which
    left, right = rows[np.clip(which - 1, 0, None)], rows[np.clip(which + 1, None, rows.size - 1)]
    far = (np.abs(rows[which] - left) > 50) | (np.abs(right - rows[which]) > 50)
    steps = np.abs(slot[which] - slot[np.clip(which - 1, 0, None)])
    out = far & (np.maximum(np.abs(rows[which] - left), np.abs(right - rows[which])) > steps + 50)
    return np.asarray(which[out], np.int64)


def _by_stamp(
    frames: Frames, rows: Int64, d: Float64, usable: Mask, period: float, reason: Codes, twin: Int64
) -> list[Part]:
    """Deliveries are counted only: slots from the stamps, as far as these are fine enough."""
    steady = np.flatnonzero(usable)
    step = 3 * period + frames.resolution
    lone = outliers(d[steady] - period * np.arange(steady.size), step)
    reason[rows[~usable]] = Reason.BAD_TICK
    reason[rows[steady[lone]]] = Reason.BAD_TICK
    at = steady[~lone]
    if frames.resolution > 0.3 * period or not at.size:
        reason[rows[at]] = Reason.AMBIGUOUS
        return []
    at = at[np.argsort(d[at], kind="stable")]
    steps = np.diff(d[at]) / period
    again = np.concatenate([[False], steps < 0.3])
    at = _without_repeats(rows, at, again, reason, twin)
    usual, spread = pitch(np.diff(d[at]), period, max(frames.resolution, 1.0 / frames.frequency))
    steps = np.diff(d[at]) / usual
    # Over a silence the phase must be kept; a long one begins a new part in any case.
    whole, pauses = breaks(steps, spread / usual, _SILENCE, frames.resolution / usual)
    whole = whole.astype(np.int64)
    slot = np.concatenate([[0], np.cumsum(whole)])
    return [
        _part(frames, rows[at[p]], slot[p] - slot[p[0]], d[at[p]], np.ones(p.size, np.bool_), period, False)
        for p in np.split(np.arange(at.size), np.flatnonzero(pauses) + 1)
    ]


def _part(
    frames: Frames, rows: Int64, slot: Int64, d: Float64 | None, usable: Mask, period: float, known: bool,
    ordinal: int = 0,
) -> Part:  # fmt: skip
    if known and frames.per_series is not None and int(slot[-1]) < frames.per_series:
        extent = (0, frames.per_series)
    elif known:
        extent = (0, int(slot[-1]) + 1)
    else:
        extent = (int(slot[0]), int(slot[-1] - slot[0]) + 1)
    ends: tuple[tuple[float, float], ...] = ()
    good = np.flatnonzero(usable)
    if d is not None and good.size:
        few = min(200, -(-good.size // 3))
        picks = (good[:few], good[(good.size - few) // 2 :][:few], good[-few:])
        ends = tuple(_end(slot[p], d[p], period) for p in picks)
    return Part(rows, slot, extent, ends, ordinal)


def _end(slot: Int64, d: Float64, period: float) -> tuple[float, float]:
    """Slot and detector time in the middle of a few frames; averaging takes the stamps' rounding out."""
    beside = d - period * slot
    near = np.abs(beside - np.median(beside)) <= np.median(np.abs(beside - np.median(beside))) * 3 + 1e-9
    return float(slot[near].mean()), float(beside[near].mean() + period * slot[near].mean())
