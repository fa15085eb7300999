"""What isn't known of a line between its readings: noise, times, curvature, jumps (docs/explanation/alignment.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hal.frames.frame import Float64, Int64, Mask
from hal.frames.piece import AGES, NOISE, Piece
from hal.frames.readings import Readings


@dataclass(frozen=True, slots=True)
class Terms:
    """Parts of sigma^2 over a piece: per reading (noise to ends), and per interval; None where there is nothing."""

    noise: Float64
    g2: Float64  # squared slope, per ns^2
    ages: Float64 | None
    ends: Float64  # of a frame on a reading
    share: Float64 | None  # of the noise that is each reading's own; None: all of it
    half: Float64  # half-way
    bend2: Float64 | None  # squared second derivative, per ns^4
    jump2: Float64 | None


def terms(r: Readings, p: Piece) -> Terms:
    """All of them, for the readings of a piece."""
    dv = np.diff(r.value[p.low : p.high + 1])
    changes = _Changes.of(r, p)
    every = changes.noise
    noise = every[p.low - p.longer.low :][: p.high - p.low + 1]
    share = _own_share(r, p, changes)
    # The very same value twice is one internal reading asked for twice: its noise doesn't average.
    same = dv == 0.0
    if same.any():
        if not r.whole:
            same &= r.usable[p.low : p.high]
        share = np.where(same, 0.0, 1.0 if share is None else share)
    sums2 = noise[:-1] + noise[1:]
    half = 0.25 * sums2 if share is None else (0.5 - 0.25 * share) * sums2
    g2 = slope2(r, p, noise)
    ends = noise
    if r.delayed:
        late = g2 * r.delay2[p.low : p.high + 1]
        ends = noise + late
        half += 0.5 * (late[:-1] + late[1:])
    gauss, ages = ends, None
    if p.wide:
        # Ages that neighbours share stay as they are half-way, others average (and become less uniform).
        age2, alike = p.ages
        ages = g2 * age2
        ends = spread_of(gauss, ages, alike)
        together = _together(r, p, gauss, ages, every)
        between = 0.5 * (ages[:-1] + ages[1:])
        kind = 0.5 * (alike[:-1] + alike[1:])
        if not together.all():
            part = np.where(together, 1.0, 0.5)
            between *= part
            kind = kind * part
        half = spread_of(half, between, kind)
    jumps, jump2 = _jumps(r, p, dv, sums2, changes.slope)
    bend2 = _bend2(r, p, changes)
    full = None
    if jumps.size:
        full = np.zeros(dv.size)
        full[jumps] = jump2
    return Terms(noise, g2, ages, ends, share, half, bend2, full)


def slope2(r: Readings, p: Piece, noise: Float64) -> Float64:
    """Squared slope at each reading, per ns^2, over at least its neighbours and at least +-w.

    A shorter base would take noise (or the stairs of an instrument's cache) for a slope; and what
    noise alone would show as a slope is none. noise: of each reading.
    """
    square = p.across(r.value)
    square *= square
    if r.sigma.strides == (0,) and r.sigma[0] > 0.0:
        square -= 2.0 * r.sigma[0] ** 2
    else:
        before, after = p.neighbours
        stated = r.sigma.take(after) ** 2 + r.sigma.take(before) ** 2
        square -= stated if stated.all() else np.where(stated > 0.0, stated, 2.0 * noise)
    np.maximum(square, 0.0, out=square)
    square *= p.per_base2
    return square


@dataclass(frozen=True, slots=True)
class _Changes:
    """How far the readings of a piece, and those looked back upon (`Piece.longer`), lie off their neighbours' lines."""

    noise: Float64  # variance of each reading
    slope: Float64  # per ns, from each reading to the next
    square: Float64  # squared change of slope at the inner readings; 0 beside a break
    from_noise: Float64  # its expectation, if the readings' noise were independent and all there is
    known: Mask | None  # not beside a break; None: all of them

    @classmethod
    def of(cls, r: Readings, p: Piece) -> _Changes:
        long = p.longer
        low, high = long.low, long.high
        slope = r.value[low + 1 : high + 1] - r.value[low:high]
        slope *= long.rate
        change = slope[1:] - slope[:-1]
        known = None if r.whole else r.usable[low : high - 1] & r.usable[low + 1 : high]
        sigma = r.sigma[low : high + 1]
        noise = sigma * sigma
        if not sigma.all() and (r.good[low : high + 1] & (sigma == 0.0)).any():
            noise = np.where(sigma > 0.0, noise, _scatter(r, long, change, known))
        if sigma.strides == (0,) and sigma[0] > 0.0:
            expected = sigma[0] ** 2 * long.all_squares
        else:
            first, middle, last = long.squares
            expected = noise[:-2] * first
            expected += noise[1:-1] * middle
            expected += noise[2:] * last
        change *= change
        if known is not None:
            change[~known] = 0.0
        return cls(noise, slope, change, expected, known)


def _scatter(r: Readings, long: Piece, change: Float64, known: Mask | None) -> Float64:
    """Variance of readings whose noise nobody states, from how they scattered until then.

    Third differences leave out what is smooth; of three that don't overlap the median counts, so that a jump doesn't.
    """
    out = np.zeros(long.high - long.low + 1)
    if change.size < 2:
        return out
    third = np.diff(change * long.per_two)
    third *= third
    third /= long.third
    if known is not None:
        sure = known[1:] & known[:-1]
        third = np.where(sure, third, 0.0)
    back = np.arange(third.size)
    one, two = third[np.maximum(back - 3, 0)], third[np.maximum(back - 6, 0)]
    median = np.maximum(np.minimum(third, one), np.minimum(np.maximum(third, one), two))
    count = np.ones(third.size) if known is None else sure.astype(np.float64)
    total, many = _recent(r, long, median * count, 3), _recent(r, long, count, 3)
    np.divide(total, _MEDIAN_OF_THREE * many, out=out, where=many > 0.0)
    return out


def _own_share(r: Readings, p: Piece, changes: _Changes) -> Float64 | None:
    """Which part of the noise is each reading's own, per interval; the rest is alike in neighbours. None: all of it.

    Filters, running means, rounding at rest, or an accuracy that is no noise: then readings lie less off the line
    through their neighbours than their uncertainties allow. Judged by the last `NOISE` readings.
    """
    ratio = np.minimum(changes.square, 6.0 * changes.from_noise)  # a bend or a jump says nothing of noise
    ratio /= np.maximum(changes.from_noise, _TINY)
    stated = r.sigma[p.longer.low + 1 : p.longer.high]
    if not (stated.all() and changes.from_noise.all()):
        ratio[(stated == 0.0) | (changes.from_noise == 0.0)] = 1.0  # what was found as noise is each one's own
    inside = slice(p.low - p.longer.low, p.high - p.longer.low)
    if changes.known is None:
        many = np.minimum(np.arange(inside.start, inside.stop, dtype=np.float64), NOISE)
    else:
        ratio *= changes.known
        many = _recent(r, p.longer, changes.known.astype(np.float64), 2)[inside]
    found = _recent(r, p.longer, ratio, 2)[inside]
    # The mean of n such squares scatters by 2 / sqrt(n).
    less = found < many - 3.4 * np.sqrt(many)
    if not less.any():
        return None
    return np.divide(found, many, out=np.ones(found.size), where=less)


def _recent(r: Readings, long: Piece, found: Float64, after: int, back: int = NOISE) -> Float64:
    """Sums of the last `back` of `found`, up to each reading of `long`, back to the last break.

    found[0] is complete with the reading number `after` of `long`, the last one with the last reading. A reading
    knows of what the next one completes.
    """
    n = long.high - long.low + 1
    total = np.zeros(n + back + 2)  # total[back + 1 + i]: what is complete with reading i
    np.cumsum(found, out=total[back + 1 + after : -1])
    total[-1] = total[-2]
    upto = total[back + 2 :]
    if r.run is None:
        return np.asarray(upto - total[2 : n + 2])
    begun = r.run[0][long.low : long.high + 1] + (back + 1 - long.low)
    return np.asarray(upto - total[np.maximum(np.arange(2, n + 2), begun)])


def _together(r: Readings, p: Piece, gauss: Float64, ages: Float64, every: Float64) -> Mask:
    """Intervals whose two readings share one error of time, as far as is known.

    Ages in overlapping intervals may be independent all the same (a bus on which others are served first).
    Then readings scatter about the line through their neighbours by as much as their ages make them, where
    a saw-tooth's don't, but for a few. Judged by the last `AGES` readings, where ages rule the error.
    every: the noise of all readings looked back upon.
    """
    together = p.together
    if r.x.size < 3 or not together.any() or not (ages > 4.0 * gauss).any():
        return together
    long = p.longer
    error = every
    late = slope2(r, long, every)
    scatter = late * long.ages[0]
    if r.delayed:
        error = error + late * r.delay2[long.low : long.high + 1]
    telling = (scatter > 4.0 * error)[1:-1] & (long.together[1:] | long.together[:-1])
    if not r.whole:
        telling &= r.usable[long.low + 1 : long.high] & r.usable[long.low : long.high - 1]
    first, second = long.between
    value = r.value[long.low : long.high + 1]
    off = value[1:-1] - first * value[:-2] - second * value[2:]
    expected = (1.0 + first**2 + second**2) * (error + scatter)[1:-1]
    far = telling & (off**2 > _MEDIAN * expected)
    inside = slice(p.low - long.low, p.high - long.low)
    known = _recent(r, long, telling.astype(np.float64), 2, AGES)[inside]
    apart = _recent(r, long, far.astype(np.float64), 2, AGES)[inside]
    return together & ~((known >= AGES // 2) & (3.0 * apart > known))


def _bend2(r: Readings, p: Piece, changes: _Changes) -> Float64 | None:
    """Squared second derivative within each interval, as far as noise can't explain it; None: nowhere."""
    long, at = p.longer, np.zeros(p.high - p.low + 1)
    begin = max(p.low - 1 - long.low, 0)  # of the changes, at reading number long.low + 1 + begin
    clear = changes.square[begin:] > _CLEAR * changes.from_noise[begin:]
    found = np.flatnonzero(clear) + begin
    if not found.size:
        return None
    dt = r.dt[long.low : long.high]
    mean = 0.5 * (dt[found] + dt[found + 1])
    where = found + 1 + long.low - p.low
    inside = (where >= 0) & (where < at.size)
    at[where[inside]] = ((changes.square[found] - _CLEAR * changes.from_noise[found]) / mean**2)[inside]
    return np.maximum(at[:-1], at[1:])


def _jumps(r: Readings, p: Piece, dv: Float64, noise: Float64, slope: Float64) -> tuple[Int64, Float64]:
    """Intervals with a jump at an unknown place, and its square: truth is one end or the other.

    What the slopes on either side explain, with readings 2 w further apart than stamped, is no jump.
    noise: of both readings; slope: of `_Changes`.
    """
    least = 2 * _CLEAR * noise
    wide = dv * dv > least
    if not r.whole:
        wide &= r.usable[p.low : p.high]
    if p.plain:
        # It must be steeper than the intervals on either side.
        steep = np.zeros(dv.size + 2)
        low, high = max(p.low - 1, 0), min(p.high + 1, r.x.size - 1)
        np.abs(slope[low - p.longer.low : high - p.longer.low], out=steep[low - p.low + 1 : high - p.low + 1])
        wide &= steep[1:-1] > np.maximum(steep[:-2], steep[2:])
    at = np.flatnonzero(wide)
    if not at.size:
        return at, np.zeros(0)
    here = at + p.low
    if p.plain:
        calm = np.maximum(steep[at], steep[at + 2])
    else:
        before, after = p.farther[0][at], p.farther[1][at + 1]
        falling = np.abs(r.value[here] - r.value[before]) / np.maximum(r.x[here] - r.x[before], 1.0)
        rising = np.abs(r.value[after] - r.value[here + 1]) / np.maximum(r.x[after] - r.x[here + 1], 1.0)
        calm = np.maximum(falling, rising)
    step = np.maximum(np.abs(dv[at]) - calm * p.reach[at], 0.0)
    square = step**2 - least[at]
    jump = square > 0.0
    return at[jump], square[jump]


_MEDIAN = 0.455  # of the square of a standard normal error
_MEDIAN_OF_THREE = 0.7036  # mean of the median of three such squares
_CLEAR = 4.0  # a second difference or a jump counts once it exceeds two sigma of what noise would do


def spread_of(gauss2: Float64, uniform2: Float64, part: Float64 | float = 1.0) -> Float64:
    """The square of the half-width that holds 68.3 % of the sum of a normal and a uniform error.

    gauss2 and uniform2 are their variances; part: 1 for one uniform error, 0.5 for the sum of two
    alike. The sum's excess kurtosis is kappa = -1.2 part (uniform2 / variance)^2, and the half-width
    in standard deviations h = 1 - kappa/12 + 0.0573 kappa^2: the first term is the Cornish-Fisher
    expansion's at one sigma, the second makes a single uniform error exact (0.6827 sqrt(3)). Right
    within 0.6 % in between. h >= 1, and +-2 h holds 95.45 % or more.
    """
    total = gauss2 + uniform2
    kappa = uniform2 / np.maximum(total, _TINY)
    kappa *= kappa
    kappa *= 1.2 * part
    h = 0.0573 * kappa
    h += 1.0 / 12.0
    h *= kappa
    h += 1.0
    h *= h
    total *= h
    return np.asarray(total)


_TINY = 1e-300


def run_lengths(same: Mask, dt: Float64) -> Float64:
    """Per interval the time one internal reading stands for, intervals that repeat it included."""
    if not same.any():
        return dt
    run = np.concatenate([[0], np.cumsum(~same[:-1])])
    return np.asarray(np.bincount(run, dt)[run], np.float64)
