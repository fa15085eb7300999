"""A channel's readings in order, and where each frame falls among them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hal.frames.channel import Aligned, Channel
from hal.frames.frame import Codes, Float32, Float64, FrameTimes, Int64, Mask, Reason

_BLOCK = 16384  # frames worked on at once: all temporaries stay in the second-level cache


@dataclass(frozen=True, slots=True)
class Readings:
    """A channel sorted by time: x in ns (float64) from the first reading, exact below 2^53 ns = 104 days."""

    time: Int64
    delay: int
    x: Float64
    value: Float64  # 0 where bad, so that no NaN leaks into sums; `good` tells
    width: Float64  # ns, uniform half-width of the time of the aperture's middle
    sigma: Float64
    good: Mask
    dt: Float64  # ns, shape (m-1,), at least 1
    usable: Mask  # shape (m-1,): both ends good and not a gap
    why: Codes  # shape (m-1,): the reason where not usable
    channel: Channel

    @classmethod
    def of(cls, channel: Channel) -> Readings:
        delay = round(channel.delay_s * 1e9)
        m = channel.time.size
        time = channel.time - delay
        value = np.asarray(channel.value, np.float64)
        # In an interval that holds the whole aperture, its middle keeps half an aperture off each end.
        width = np.broadcast_to(
            np.maximum(np.asarray(channel.time_bound, np.float64) - channel.aperture_s * 0.5e9, 0.0), (m,)
        )
        sigma = np.broadcast_to(np.asarray(channel.sigma, np.float64), (m,))
        good = np.isfinite(value) & np.isfinite(sigma)
        if channel.good is not None:
            good = good & channel.good
        sigma = np.where(good, sigma, 0.0)
        if m > 1 and (time[1:] < time[:-1]).any():
            order = np.argsort(time, kind="stable")
            time, value, width, sigma, good = (
                time[order],
                value[order],
                width[order],
                sigma[order],
                good[order],
            )
        if channel.kind == "linear":
            sigma = _steady(sigma, good)
        x = (time - time[0]).astype(np.float64) if m else np.zeros(0)
        step = np.diff(x)
        both = good[1:] & good[:-1]
        if channel.kind == "step" and not channel.polled:
            both = good[:-1]  # a bad reading says when the value was lost; until then it held
        gap = step > channel.max_gap_s * 1e9
        why = np.where(both, np.where(gap, Reason.GAP, Reason.OK), Reason.BAD_QUALITY).astype(np.uint8)
        return cls(
            time, delay, x, np.where(good, value, 0.0), width, sigma, good,
            np.maximum(step, 1.0), both & ~gap, why, channel,
        )  # fmt: skip


def _steady(sigma: Float64, good: Mask) -> Float64:
    """sigma as the geometric mean over three neighbours.

    Where sigma was computed from the value itself (5 % of reading), a reading that came out low
    also claims to be good: the mean takes most of that correlation out, and leaves an exponential
    decay over decades as it is.
    """
    if sigma.size < 3 or (sigma[1:] == sigma[:-1]).all():
        return sigma
    inner = good[1:-1] & good[:-2] & good[2:] & (sigma[1:-1] > 0) & (sigma[:-2] > 0) & (sigma[2:] > 0)
    out = sigma.copy()
    out[1:-1][inner] = np.cbrt(sigma[:-2] * sigma[1:-1] * sigma[2:])[inner]
    return out


@dataclass(frozen=True, slots=True)
class Middles:
    """The frames' mid-points, prepared once for all channels."""

    time: Int64
    x: Float64  # ns from the first frame's; exact below 2^53
    ascending: bool

    @classmethod
    def of(cls, frames: FrameTimes) -> Middles:
        time = frames.middle
        if frames.valid.any():
            # Placeholders of invalid frames would break the order and the exactness.
            known = np.flatnonzero(frames.valid)
            if known.size < time.size:
                time = time[known].take(np.clip(np.searchsorted(known, np.arange(time.size)), 0, known.size - 1))
        x = (time - time[0]).astype(np.float64) if time.size else np.zeros(0)
        return cls(time, x, bool((x[1:] >= x[:-1]).all()))


@dataclass(frozen=True, slots=True)
class Place:
    """Where each frame's middle lies among the readings of one time base."""

    k: Int64  # shape (n,): interval from reading k to k + 1, clipped to the existing ones
    u: Float64  # fraction of the interval
    before: slice | Int64  # frames before the first reading
    after: slice | Int64  # frames after the last
    exact: Int64  # frames whose middle coincides with reading k > 0

    @classmethod
    def of(cls, middles: Middles, time: Int64) -> Place:
        middle, n, m = middles.time, middles.time.size, time.size
        if m < 2 or not n:
            first, last = (time[0], time[0]) if m else (1 << 62, 1 << 62)
            none = np.zeros(0, np.int64)
            return cls(
                np.zeros(n, np.int64),
                np.zeros(n),
                np.flatnonzero(middle < first),
                np.flatnonzero(middle > last),
                none,
            )
        before: slice | Int64
        after: slice | Int64
        if middles.ascending:
            # Few readings, many frames in order: look the readings up among the frames, and repeat.
            edges = np.searchsorted(middle, time, side="left")
            bounds = np.concatenate([[0], edges[1:-1], [n]])
            k = np.repeat(np.arange(m - 1), np.diff(bounds))
            before, after = (
                slice(0, int(edges[0])),
                slice(int(np.searchsorted(middle, time[-1], side="right")), n),
            )
        else:
            k = np.clip(np.searchsorted(time, middle, side="right") - 1, 0, m - 2)
            before, after = (np.flatnonzero(middle < time[0]), np.flatnonzero(middle > time[-1]))
        # All in ns from the first frame: differences of int64 before any float.
        origin = (time - middle[0]).astype(np.float64)
        scale = 1.0 / np.maximum(np.diff(time), 1).astype(np.float64)
        u = np.empty(n)
        for at in blocks(n):
            p, i = u[at], k[at]
            np.subtract(middles.x[at], origin.take(i), out=p)
            p *= scale.take(i)
            np.clip(p, 0.0, 1.0, out=p)
        return cls(k, u, before, after, np.flatnonzero(u == 0.0))


def state(r: Readings, frames: FrameTimes, place: Place) -> tuple[Int64, Float64, Codes]:
    """Interval, fraction and reason per frame, before exposure means are looked at."""
    k, u = place.k, place.u
    if not r.usable.all() and place.exact.size:
        # A frame exactly on a reading after which the data break off belongs to the interval before it.
        at = place.exact
        at = at[(k[at] > 0) & (frames.middle[at] == r.time[k[at]])]
        at = at[~r.usable[k[at]] & r.usable[k[at] - 1]]
        if at.size:
            k, u = k.copy(), u.copy()
            k[at] -= 1
            u[at] = 1.0
    reason = r.why.take(k)
    reason[place.before] = Reason.BEFORE_DATA
    reason[place.after] = Reason.AFTER_DATA
    reason[~frames.valid] = Reason.NO_FRAME_TIME
    return k, u, reason


def single(r: Readings, frames: FrameTimes, place: Place) -> Aligned:
    """Fewer than two readings: a value only for a frame exactly on the one reading."""
    n = len(frames)
    reason = np.zeros(n, np.uint8)
    reason[place.before], reason[place.after] = Reason.BEFORE_DATA, Reason.AFTER_DATA
    hit = frames.valid & (reason == Reason.OK) & bool(r.good.any())
    if not r.x.size:
        reason[:] = Reason.NO_DATA
    elif not r.good[0]:
        reason[reason == Reason.OK] = Reason.BAD_QUALITY
    reason[~frames.valid] = Reason.NO_FRAME_TIME
    value, sigma = np.full(n, np.nan), np.full(n, np.nan, np.float32)
    if hit.any():
        value[hit], sigma[hit] = (r.value[0], math.hypot(r.sigma[0], r.channel.sigma_common))
    return Aligned(value, sigma, hit, reason)


def cumulative(per_interval: Float64) -> Float64:
    return np.concatenate([[0.0], np.cumsum(per_interval)])


def run_lengths(same: Mask, dt: Float64) -> Float64:
    """Per interval the time one internal reading stands for, intervals that repeat it included."""
    run = np.concatenate([[0], np.cumsum(~same[:-1])]) if same.size else np.zeros(0, np.int64)
    return np.bincount(run, dt)[run] if same.size else dt


def finish(value: Float64, sigma: Float32, reason: Codes) -> Aligned:
    valid = reason == Reason.OK
    if not valid.all():
        value[~valid] = np.nan
        sigma[~valid] = np.nan
    return Aligned(value, sigma, valid, reason)


def blocks(n: int) -> Iterator[slice]:
    return (slice(s, min(s + _BLOCK, n)) for s in range(0, n, _BLOCK))
