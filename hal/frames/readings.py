"""A channel's readings in order: when each was measured at the specimen, how well, and where they break off."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hal.frames.channel import Aligned, Channel
from hal.frames.frame import Codes, Float32, Float64, Int64, Mask, Reason
from hal.frames.place import Places, blocks


@dataclass(frozen=True, slots=True)
class Readings:
    """Arrays of shape (m,) per reading and (m-1,) per interval between two of them."""

    channel: Channel
    time: Int64  # ns, when it was measured, the delay taken off
    x: Float64  # ns from the first reading, exact below 2^53 ns = 104 days
    value: Float64  # 0 where bad, so that no NaN leaks into sums; `good` tells
    width: Float64  # ns, uniform half-width of the time of the aperture's middle
    sigma: Float64
    delay2: Float64  # ns^2, variance of the delay
    good: Mask
    dt: Float64  # ns, shape (m-1,), at least 1
    usable: Mask  # shape (m-1,): both ends good and not a gap
    whole: bool  # all of them are
    why: Codes  # shape (m-1,): the reason where not usable
    merges: bool  # whether repeated answers may have been joined to one reading
    shortest: float  # ns, of dt
    delayed: bool  # whether delays are uncertain at all
    run: tuple[Int64, Int64] | None  # per reading the first and last of its unbroken run; None: all are one

    @classmethod
    def of(cls, channel: Channel) -> Readings:
        """In order of time, delays taken off, repeated answers of a cache joined."""
        m = channel.time.size
        value = np.asarray(channel.value, np.float64)
        # In an interval that holds the whole aperture, its middle keeps half an aperture off each end.
        width = _per_reading(channel.time_bound, m)
        if channel.aperture_s:
            width = np.maximum(width - channel.aperture_s * 0.5e9, 0.0)
        sigma = _per_reading(channel.sigma, m)
        delay2 = _per_reading((np.asarray(channel.delay_sigma_s) * 1e9) ** 2, m)
        good = np.isfinite(value)
        good &= np.isfinite(pick(sigma, slice(None)))
        if channel.good is not None:
            good &= channel.good
        time = channel.time
        if isinstance(channel.delay_s, np.ndarray):
            delay = channel.delay_s
            known = np.isfinite(delay) & np.isfinite(delay2)
            good &= known
            time = time - np.rint(_filled(delay, known) * 1e9).astype(np.int64)
            delay2 = np.where(known, delay2, 0.0)
        elif channel.delay_s:
            time = time - round(channel.delay_s * 1e9)
        all_good = bool(good.all())
        if not all_good:
            sigma = np.where(good, sigma, 0.0)
            value = np.where(good, value, 0.0)
        if (time[1:] < time[:-1]).any():
            order = np.argsort(time, kind="stable")
            time, value, width, sigma = time[order], value[order], width[order], sigma[order]
            delay2, good = delay2[order], good[order]
        step = np.diff(time)
        merges = False
        if channel.kind == "linear" and m > 1:
            sigma = _steady(sigma, good)
            merges = bool(_overlapping(width, step).any())
            if merges:
                kept = _joined(time, value, width, good, step)
                if kept is not None:
                    keep, time, width = kept
                    value, sigma, delay2, good = value[keep], sigma[keep], delay2[keep], good[keep]
                    step = np.diff(time)
        x = (time - time[0]).astype(np.float64) if m else np.zeros(0)
        dt = np.maximum(step, 1).astype(np.float64)
        both = good[1:] & good[:-1]
        if channel.kind == "step" and not channel.polled:
            both = good[:-1]  # a bad reading says when the value was lost; until then it held
        usable = dt <= channel.max_gap_s * 1e9
        why = np.zeros(usable.size, np.uint8)
        whole = bool(usable.all() and both.all())
        if not whole:
            why[~usable] = Reason.GAP
            why[~both] = Reason.BAD_QUALITY
            usable &= both
        return cls(
            channel, time, x, value, width, sigma, delay2, good, dt, usable, whole, why, merges,
            float(dt.min()) if dt.size else math.inf, bool(pick(delay2, slice(None)).any()),
            None if whole else _runs(usable),
        )  # fmt: skip

    @property
    def narrowest(self) -> float:
        """ns, the shortest interval in which a frame can lie: two readings at one time hold none."""
        return self.shortest if self.shortest > 1.0 else float(np.min(self.dt[self.dt > 1.0], initial=math.inf))

    def neighbours(self, reach: Float64, low: int, high: int) -> tuple[Int64, Int64]:
        """For readings low to high - 1 the one before and the one after, each at least `reach` ns away.

        Both in the same unbroken run. reach has one entry per reading asked for.
        """
        index = np.arange(low, high)
        before, after = index - 1, index + 1
        if reach.max() > self.shortest:
            x = self.x[low:high]
            before = np.minimum(before, np.searchsorted(self.x, x - reach, side="right") - 1)
            after = np.maximum(after, np.searchsorted(self.x, x + reach, side="left"))
        if self.run is None:
            return np.maximum(before, 0), np.minimum(after, self.x.size - 1)
        first, last = self.run
        return np.maximum(before, first[low:high]), np.minimum(after, last[low:high])


def one_after_another(parts: Sequence[Readings], origin: int, apart: int) -> Readings:
    """Readings of several channels as if of one: channel i later by i * apart ns, the first ones counted from origin.

    Where one ends and the next begins is a break, with the reason of the interval before it. What is said of the
    channel as a whole is the first one's.
    """
    time = np.concatenate([part.time + (i * apart - origin) for i, part in enumerate(parts)])
    step = np.diff(time)
    joints = np.cumsum([part.x.size for part in parts])[:-1] - 1
    usable, why = np.zeros(step.size, np.bool_), np.zeros(step.size, np.uint8)
    begin = 0
    for part in parts:
        end = begin + part.x.size - 1
        usable[begin:end], why[begin:end] = part.usable, part.why
        begin = end + 1
    why[joints] = np.maximum(why[joints - 1], Reason.GAP)
    value, width, sigma, delay2, good = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("value", "width", "sigma", "delay2", "good")
    )
    dt = np.maximum(step, 1).astype(np.float64)
    return Readings(
        parts[0].channel, time, (time - time[0]).astype(np.float64), value, width, sigma, delay2, good, dt, usable,
        False, why, any(part.merges for part in parts), min(part.shortest for part in parts),
        any(part.delayed for part in parts), _runs(usable),
    )  # fmt: skip


def _runs(usable: Mask) -> tuple[Int64, Int64]:
    index = np.arange(usable.size + 1)
    broken = ~usable
    first = np.maximum.accumulate(np.where(np.concatenate([[True], broken]), index, 0))
    last = np.minimum.accumulate(np.where(np.concatenate([broken, [True]]), index, usable.size)[::-1])[::-1]
    return first, last


def _per_reading(number: Float64 | Int64 | float, m: int) -> Float64:
    return np.broadcast_to(np.asarray(number, np.float64), (m,))


def _filled(delay: Float64, known: Mask) -> Float64:
    """Unknown delays replaced by the last known one, to keep the (bad) reading near its place."""
    if known.all():
        return delay
    if not known.any():
        return np.zeros_like(delay)
    at = np.maximum.accumulate(np.where(known, np.arange(delay.size), -1))
    return delay[np.where(at < 0, np.argmax(known), at)]


def _steady(sigma: Float64, good: Mask) -> Float64:
    """sigma as the geometric mean over three neighbours.

    Where sigma was computed from the value itself (5 % of reading), a reading that came out low
    also claims to be good: the mean takes most of that correlation out, and leaves an exponential
    decay over decades as it is.
    """
    if sigma.size < 3 or sigma.strides == (0,) or (sigma[1:] == sigma[:-1]).all():
        return sigma
    inner = good[1:-1] & good[:-2] & good[2:] & (sigma[1:-1] > 0) & (sigma[:-2] > 0) & (sigma[2:] > 0)
    out = sigma.copy()
    out[1:-1][inner] = np.cbrt(sigma[:-2] * sigma[1:-1] * sigma[2:])[inner]
    return out


def _overlapping(width: Float64, step: Int64) -> Mask:
    """Intervals whose two readings may have been measured at one moment."""
    return np.asarray(pick(width, slice(1, None)) + pick(width, slice(-1)) >= step)


def _joined(
    time: Int64, value: Float64, width: Float64, good: Mask, step: Int64
) -> tuple[Int64, Int64, Float64] | None:
    """Answers that repeat one measurement, joined: which readings stay, at what times and half-widths.

    The very same number again, from an interval that overlaps: an instrument asked faster than it
    measures answered from its cache. The one measurement lies in all these intervals, so in their
    intersection, which is narrower. No intersection: then they were several after all. None: nothing to join.
    """
    same = (value[1:] == value[:-1]) & good[1:] & good[:-1] & _overlapping(width, step)
    if not same.any():
        return None
    begins = np.flatnonzero(np.concatenate([[True], ~same]))
    whole = np.floor(width).astype(np.int64)
    low, high = np.maximum.reduceat(time - whole, begins), np.minimum.reduceat(time + whole, begins)
    one = low <= high
    run = np.cumsum(np.concatenate([[True], ~same])) - 1
    inside = np.concatenate([[False], same])
    keep = np.flatnonzero(~(inside & one[run]))
    joined = one & (np.diff(np.append(begins, time.size)) > 1)
    new_time, new_width = time.copy(), width.copy()
    at = begins[joined]
    new_time[at] = low[joined] + (high[joined] - low[joined]) // 2
    new_width[at] = 0.5 * (high[joined] - low[joined])
    return keep, new_time[keep], new_width[keep]


def single(r: Readings, places: Places) -> Aligned:
    """Fewer than two readings: a value only for a frame exactly on the one reading."""
    reason = places.outside.copy()
    if r.x.size and not r.good[0]:
        reason[reason == Reason.OK] = Reason.BAD_QUALITY
    hit = reason == Reason.OK
    value, sigma = np.full(hit.size, np.nan), np.full(hit.size, np.nan, np.float32)
    if r.x.size:
        value[hit], sigma[hit] = r.value[0], math.hypot(r.sigma[0], r.channel.sigma_common)
    return Aligned(value, sigma, hit, reason)


def reasons(r: Readings, places: Places) -> tuple[Codes, Int64]:
    """Why each frame's middle has no value, and the frames on the last reading before a break.

    A frame exactly on a reading after which the data break off belongs to the interval before it.
    """
    if r.whole:
        return places.outside, np.zeros(0, np.int64)
    place = places.middle
    at = np.flatnonzero((place.u == 0.0) & (place.k > 0))
    at = at[~r.usable[place.k[at]] & r.usable[place.k[at] - 1] & (places.film.middle.time[at] == r.time[place.k[at]])]
    reason = np.where(places.outside == Reason.OK, r.why.take(place.k), places.outside)
    reason[at] = places.outside[at]
    return reason, at


def long_exposures(r: Readings, places: Places, exact: Int64) -> Iterator[Int64]:
    """The frames exposed for more than half the interval between the readings around them, in parts."""
    film = places.film
    if film.longest <= 0.5 * r.narrowest:
        return
    k = places.middle.k
    if exact.size:
        k = k.copy()
        k[exact] -= 1
    long = np.flatnonzero((film.exposure(slice(None)) > 0.5 * r.dt.take(k)) & film.frames.valid)
    yield from (long[part] for part in blocks(long.size))


def whole_exposures(r: Readings, places: Places, long: Int64, broken_before: Float64) -> Codes:
    """Why the exposures of the frames `long` are not covered by readings; broken_before: breaks up to each reading."""
    frames = places.film.frames
    ka, kb = places.start.k[long], places.stop.k[long]
    why = np.zeros(long.size, np.uint8)
    if not r.whole:
        # An exposure that ends on a reading needs nothing after it.
        last = np.where((places.stop.u[long] == 0.0) & (kb > ka), kb - 1, kb)
        broken = broken_before[last + 1] != broken_before[ka]
        first_bad = np.searchsorted(broken_before, broken_before[ka[broken]], side="right") - 1
        why[broken] = r.why[np.clip(first_bad, 0, r.why.size - 1)]
    why[frames.stop[long] > r.time[-1]] = Reason.AFTER_DATA
    why[frames.start[long] < r.time[0]] = Reason.BEFORE_DATA
    return why


def finish(value: Float64, sigma: Float32, reason: Codes, places: Places) -> Aligned:
    """NaN wherever there is a reason."""
    inside = places.inside
    valid = inside if reason is places.outside else reason == Reason.OK
    lost = places.lost if valid is inside else np.flatnonzero(~valid)
    if lost.size:
        value[lost] = np.nan
        if sigma.strides != (0,):
            sigma[lost] = np.nan
    return Aligned(value, sigma, valid, reason)


def unknown(n: int) -> Float32:
    """No uncertainties: NaN for every frame, at no cost."""
    return np.broadcast_to(np.float32(np.nan), (n,))


def cumulative(per_interval: Float64 | Mask) -> Float64:
    """Sums up to each reading, shape (m,)."""
    return np.concatenate([[0.0], np.cumsum(per_interval)])


def pick(of: Float64, index: Int64 | slice) -> Float64:
    """The entries at `index`; a single one of an array that is the same throughout."""
    return of[:1] if of.strides == (0,) else of[index]
