"""Irregularly triggered frames with stamps: each takes the pulse that its stamp points at, if it is the only one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hal.frames.comb import first_within
from hal.frames.frame import Codes, Float64, Int64, Mask, Reason
from hal.frames.series import Frames, outliers
from hal.frames.vote import Offset, find_offset, in_order


@dataclass(frozen=True, slots=True)
class Found:
    """What became of the frames of one epoch; arrays as long as `rows`."""

    rows: Int64
    start: Float64  # s, pulse time
    pulse: Int64  # index of the edge, -1: none
    extra: Float64  # s, to be added to the bound
    reason: Codes
    offset: Offset | None


def by_pattern(
    frames: Frames, rows: Int64, d: Float64, usable: Mask, limit: Float64, t: Float64, edges: Float64, period: float,
    twin: Int64,
) -> list[Found]:  # fmt: skip
    """Match the frames `rows` (one epoch, in order of reception) with stamps d; what fits nowhere is tried again.

    t are debounced pulses, edges all of them, limit the latest moment of each frame's pulse, s.
    """
    first = _once(frames, rows, d, usable, limit, t, edges, period, twin)
    rest = np.flatnonzero((first.reason == Reason.NOT_MATCHED) & usable)
    if first.offset is None or rest.size < 20:
        return [first]
    # Stretches without pulses where the clock says: perhaps the clock jumped.
    found, keep = [], np.ones(rows.size, np.bool_)
    for stretch in np.split(rest, np.flatnonzero(np.diff(rest) > 5) + 1):
        span = slice(int(stretch[0]), int(stretch[-1]) + 1)
        if stretch.size >= 20:
            again = _once(frames, rows[span], d[span], usable[span], limit, t, edges, period, twin)
            if again.offset is not None:
                keep[span] = False
                found.append(again)
    kept = Found(rows[keep], first.start[keep], first.pulse[keep], first.extra[keep], first.reason[keep], first.offset)
    return [kept, *found]


def _once(
    frames: Frames, rows: Int64, d: Float64, usable: Mask, limit: Float64, t: Float64, edges: Float64, period: float,
    twin: Int64,
) -> Found:  # fmt: skip
    n = rows.size
    reason = np.full(n, Reason.NOT_MATCHED, np.uint8)
    nowhere = Found(rows, np.full(n, np.nan), np.full(n, -1), np.zeros(n), reason, None)
    trusted = np.flatnonzero(usable)
    if trusted.size < 4:
        return nowhere
    wild = outliers(d[trusted] - period * np.arange(trusted.size), 12 * period + 2 * frames.resolution)
    trusted = trusted[~wild]
    order = trusted[np.argsort(d[trusted], kind="stable")]
    if order.size < 4:
        return nowhere
    number = frames.number if frames.counts != "deliveries" else None
    again = np.diff(d[order]) <= 1e-9 + (0.0 if number is None else frames.resolution)
    if number is not None:
        again &= np.diff(number[rows[order]]) == 0
    elif frames.resolution > 0.1 * period:
        again[:] = False
    again = np.concatenate([[False], again])
    alone = order[~again]
    own = d[alone]
    # Rates differ by at most ppm, so each frame bounds the offset at the first one.
    slack = 1e-6 * frames.ppm * (own - own[0])
    least = 0.0 if frames.min_latency is None else frames.min_latency - 3 * frames.min_latency_sigma
    latest = np.sort(limit[rows[alone]] - own + slack) - least + 1e-4
    offset = None
    for spoilt in sorted({0, own.size // 200, own.size // 30}):  # corrupted stamps may seem to be from the future
        offset = offset or find_offset(t, own, float(latest[spoilt]), period, frames.ppm, frames.resolution)
    if offset is None:
        return nowhere
    usable = usable & offset.knows(d)
    at = d + offset(np.where(usable, d, own[0]))
    at = np.where(usable, at, np.nan)
    reach = offset.reach
    safe = np.where(usable, at, -1e18)
    pulse = first_within(edges, safe, np.full(n, reach))
    claimed = first_within(t, safe, np.full(n, reach + 2.5e-5))  # debounced: the ring's first edge
    claimed = np.where(pulse >= 0, np.searchsorted(t, edges[np.clip(pulse, 0, None)], side="right") - 1, -1)
    inside = np.searchsorted(t, safe + reach, side="right") - np.searchsorted(t, safe - reach)
    start = np.where(pulse >= 0, edges[np.clip(pulse, 0, None)], at)
    extra = np.where(pulse >= 0, 0.0, reach + frames.resolution)
    reason[:] = Reason.OK
    reason[inside > 1] = Reason.AMBIGUOUS
    extra[inside > 1] = 2 * reach
    repeated = order[again]
    reason[repeated] = Reason.DUPLICATE
    kept = order[~again]
    twin[rows[repeated]] = rows[kept[np.cumsum(~again)[again] - 1]]
    _without(frames, rows, number, pulse, claimed, t, edges, start, extra, reason, limit, least, period)
    _once_each(pulse, np.abs(start - at), reason, extra, period)
    return Found(rows, start, pulse, extra, reason, offset)


def _without(
    frames: Frames, rows: Int64, number: Int64 | None, pulse: Int64, claimed: Int64, t: Float64, edges: Float64,
    start: Float64, extra: Float64, reason: Codes, limit: Float64, least: float, period: float,
) -> None:  # fmt: skip
    """Frames whose stamp points at no pulse: the pulse was missed, or the stamp is corrupt. The neighbours know."""
    open_ = np.flatnonzero(reason != Reason.DUPLICATE)
    if number is None:
        chain, ranks = open_, np.zeros(0, np.int64)
        order = np.arange(open_.size)
    else:
        chain = open_[np.argsort(number[rows[open_]], kind="stable")]
        if frames.counts == "series" or (np.diff(number[rows[open_]]) < 0).any():
            chain = open_  # numbers begin anew in between: keep the order of reception
        order = number[rows[chain]]
        ranks = order
    left, missing = in_order(claimed[chain], order, ranks)
    # The frame's stamp must lie between the neighbours'.
    when = np.where(claimed[chain] >= 0, t[np.clip(claimed[chain], 0, None)], np.nan)
    after, until = np.fmax.accumulate(when), np.fmin.accumulate(when[::-1])[::-1]
    between = (start[chain] > after) & (start[chain] < until)
    fixed = (left >= 0) & (claimed[chain] < 0)
    which, moment = chain[fixed], t[left[fixed]]
    # Far from the stamp: a stray where the pulse was missed, or is it the stamp that is off?
    likely = between[fixed] & (np.abs(moment - start[which]) > 0.02 * period)
    reason[which[likely]] = Reason.AMBIGUOUS
    extra[which[likely]] += np.abs(moment - start[which])[likely]
    fits = ~likely & (moment <= limit[rows[which]] - least + 1e-4)
    which, moment = which[fits], moment[fits]
    # Where the stamp says otherwise, but not by much, the truth may be there as well.
    extra[which] = np.where(between[fixed][fits], np.abs(moment - start[which]), 0.0)
    start[which] = moment
    pulse[which] = np.searchsorted(edges, moment)
    reason[which] = Reason.OK
    lost = chain[(claimed[chain] < 0) & ~missing]
    lost = lost[(pulse[lost] < 0) & (reason[lost] != Reason.AMBIGUOUS)]
    reason[lost] = Reason.NOT_MATCHED
    # No pulse is left for the others: their own was missed.
    spoilt = (pulse[chain] < 0) & (reason[chain] == Reason.OK) & ~between
    reason[chain[spoilt]] = Reason.BAD_TICK


def _once_each(pulse: Int64, off: Float64, reason: Codes, extra: Float64, period: float) -> None:
    """No pulse for two frames: the one further off, if both are not the same frame, loses it."""
    at = np.flatnonzero((pulse >= 0) & (reason == Reason.OK))
    order = at[np.lexsort((off[at], pulse[at]))]
    same = np.flatnonzero(np.diff(pulse[order]) == 0)
    for i in same.tolist():
        reason[order[i : i + 2]] = Reason.AMBIGUOUS
        extra[order[i : i + 2]] = period
