"""Fixed delays that no clock model can see, measured by a flash of light or a pulse led back.

What a camera's stamp says and when light fell on it differ by a constant that neither arrivals nor
frame pulses show; how unequal the two ways of a link are does not show in any exchange of time. One
event of which the true moment is known shows either. Formulas: `docs/explanation/clocks.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ClockError

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

FEWEST = 8
"""Events below which no delay is stated: their scatter would be a guess."""
FAINTEST = 8.0
"""Least ratio of the flash's height to the scatter of a dark frame."""
ROUGH = 1 << 22
"""Overlaps worked out at a time while searching."""


@dataclass(frozen=True, slots=True, eq=False)
class Delay:
    """A delay in seconds with its standard uncertainty, by as many events as told something about it."""

    value: float
    sigma: float
    events: int
    scatter: float
    """Of single events about it, one sigma, s; large against `sigma * sqrt(events)` when something moved."""
    dark: float
    """Brightness of a frame that caught no light, in the unit of the brightness."""
    gain: float
    """More of it per second of light."""
    each: Float64
    """(m,) s, the delay by each flash alone, in the order of time; NaN where it told nothing."""


@dataclass(frozen=True, slots=True)
class LinkDelays:
    """The smallest delays of a link, s: from host to device and back, with their common standard uncertainty.

    Their sum is seen in every exchange; the pulse tells their difference, and its error is what `sigma` holds.
    """

    out: float
    back: float
    sigma: float
    events: int


def by_flash(
    start: Int64, exposure: Float64 | float, brightness: Float64, flashes: Int64, length: float, *, within: float
) -> Delay:
    """By how much exposures really began later than stated, from frames filmed while a light flashed.

    start       (n,) stated start of each exposure, ns
    exposure    (n,) or scalar, s
    brightness  (n,) mean of each frame, any unit that is linear in light
    flashes     (m,) true moments at which the light went on, ns on the same clock; they must not keep time
                with the frames, or the delay can't be told from the phase
    length      s that each flash lasts
    within      s, the delay lies within +-within

    The light a frame caught is its overlap with the flashes; that is piecewise linear in the delay, and dark
    level and gain follow from linear regression at each delay. The least sum of squares gives the delay, its
    curvature the uncertainty, or the scatter of single flashes if that says more. Raises `ClockError` if flashes are
    too few or too faint, or if two delays fit alike.
    """
    flashes = np.unique(np.asarray(flashes, np.int64))
    if flashes.size < FEWEST:
        raise ClockError(f"delay by flash: {flashes.size} flashes were seen; {FEWEST} or more are needed")
    order = np.argsort(start, kind="stable")
    origin = int(flashes[0])
    begin: Float64 = np.asarray((np.asarray(start, np.int64)[order] - origin) * 1e-9, np.float64)
    lasting = np.broadcast_to(np.asarray(exposure, np.float64), begin.shape)[order]
    light = np.asarray(brightness, np.float64)[order]
    lit = _Lit(np.asarray((flashes - origin) * 1e-9, np.float64), length)
    near = lit.may_light(begin, lasting, within)
    begin, lasting, light = begin[near], lasting[near], light[near]
    if begin.size < 4 * FEWEST or not np.isfinite(light).all():
        raise ClockError("delay by flash: hardly a frame was filmed while the light flashed; film during the flashes")
    step = min(length, float(lasting.min())) / 2
    grid = np.arange(-within, within + step, step)
    cost = np.empty(grid.size)
    block = max(1, ROUGH // begin.size)
    for first in range(0, grid.size, block):
        cost[first : first + block] = [lit.misfit(d, begin, lasting, light) for d in grid[first : first + block]]
    best = int(np.argmin(cost))
    delay = _minimum(lambda d: lit.misfit(d, begin, lasting, light), float(grid[best]) - step, float(grid[best]) + step)
    dark, gain, rest = lit.fitted(delay, begin, lasting, light)
    noise = float(np.sqrt(rest @ rest / max(begin.size - 3, 1)))
    height = gain * min(length, float(np.median(lasting)))
    if height < FAINTEST * noise:
        raise ClockError(
            f"delay by flash: the flash is {height:.3g} bright and frames scatter by {noise:.3g}; "
            "use a brighter or longer flash, or look at the part of the image that it lights"
        )
    elsewhere = cost[np.abs(grid - delay) > 3 * step + length + float(lasting.max())]
    if elsewhere.size and elsewhere.min() < 2.0 * max(lit.misfit(delay, begin, lasting, light), noise**2):
        raise ClockError(
            "delay by flash: two delays explain the light equally well; let the flashes come at irregular times"
        )
    slope = _projected(lit.slope(delay, begin, lasting), lit.overlap(delay, begin, lasting))
    told = float(slope @ slope) * gain**2
    if not told:
        raise ClockError("delay by flash: no frame caught a part of a flash; let the flashes come at irregular times")
    each = lit.per_flash(delay, begin, lasting, gain, rest)
    told_by = each[np.isfinite(each)]
    if told_by.size < FEWEST:
        raise ClockError(
            f"delay by flash: {told_by.size} of {flashes.size} flashes fell across an exposure's beginning or end, and "
            f"only those tell; {FEWEST} or more are needed: flash more often, or longer"
        )
    scatter = float(np.std(told_by, ddof=1))
    # Frames that are lit scatter more than dark ones, by counting alone, and those at a flash's ends decide: their own
    # scatter counts as well as that of all (the heteroscedasticity-consistent estimate, White 1980).
    few = told_by.size / (told_by.size - 1)
    own = float(np.sqrt(few * ((slope * rest) ** 2).sum())) / (gain * float(slope @ slope))
    sigma = max(noise / float(np.sqrt(told)), scatter / float(np.sqrt(told_by.size)), own)
    return Delay(delay, sigma, int(told_by.size), scatter, dark, gain, each + delay)


def by_loop(mapped: Int64, reference: Int64, reference_bound: Int64 | int, round_trip: float) -> LinkDelays:
    """A link's two delays, from pulses that the host made at known moments and the device stamped.

    mapped          (m,) lab time of the pulses by the device's stamps and a clock model that takes both ways for
                    equal, ns
    reference       (m,) lab time at which the host made them, ns, each known to +-reference_bound
    round_trip      s, the smallest round trip of the exchanges behind the model, the device's own time left out

    Such a model takes the middle of an exchange for the moment at which the device read its counter. If the question
    takes longer than the answer that moment came later, and so the model puts all ticks too early, by (out - back)/2:
    with late = mapped - reference, out = round_trip/2 - late and back = round_trip/2 + late.
    Raises `ClockError` if there are too few pulses, or if they say that one way takes less than no time.
    """
    late = (np.asarray(mapped, np.int64) - np.asarray(reference, np.int64)) * 1e-9
    if late.size < FEWEST:
        raise ClockError(f"delay by loop: {late.size} pulses were stamped; {FEWEST} or more are needed")
    middle = float(np.median(late))
    scatter = 1.4826 * float(np.median(np.abs(late - middle)))
    bound = float(np.median(np.broadcast_to(np.asarray(reference_bound, np.float64), late.shape))) * 1e-9
    # The median of n normal values scatters by 1.2533 sigma / sqrt(n); the host's own doubt is common to all.
    sigma = float(np.hypot(1.2533 * scatter / np.sqrt(late.size), bound / np.sqrt(3.0)))
    out, back = round_trip / 2 - middle, round_trip / 2 + middle
    if min(out, back) < -3 * sigma - 1e-6:
        raise ClockError(
            f"delay by loop: the ways would take {out * 1e6:.0f} and {back * 1e6:.0f} us of a round trip of "
            f"{round_trip * 1e6:.0f} us; is the pulse led to the right input, and its edge the right one?"
        )
    return LinkDelays(max(out, 0.0), max(back, 0.0), sigma, int(late.size))


# ---------------------------------------------------------------------------- private


class _Lit:
    """Flashes of one length: how much of them an exposure catches, if it begins later by d than stated."""

    def __init__(self, on: Float64, length: float) -> None:
        self.on, self.length = on, length
        edges = np.ravel(np.column_stack([on, on + length]))
        if (np.diff(edges) < 0).any():
            raise ClockError("delay by flash: a flash begins before the one before it has ended; space them out")
        self._at = edges
        self._sum = np.repeat(np.arange(on.size + 1) * length, 2)[1:-1]

    def may_light(self, begin: Float64, lasting: Float64, within: float) -> NDArray[np.bool_]:
        """Frames that a flash may have reached, and as many on either side."""
        reach = 2 * (within + self.length) + float(lasting.max(initial=0.0))
        after = np.searchsorted(self.on, begin - reach)
        near = np.minimum(after, self.on.size - 1)
        return np.asarray((self.on[near] <= begin + lasting + reach) & (self.on[near] >= begin - reach))

    def before(self, t: Float64) -> Float64:
        """Seconds of light until t."""
        return np.asarray(np.interp(t, self._at, self._sum))

    def overlap(self, d: float, begin: Float64, lasting: Float64) -> Float64:
        return self.before(begin + (d + lasting)) - self.before(begin + d)

    def slope(self, d: float, begin: Float64, lasting: Float64) -> Float64:
        """Of the overlap, by the delay: light on at the end less light on at the start."""
        return self._on(begin + (d + lasting)) - self._on(begin + d)

    def fitted(self, d: float, begin: Float64, lasting: Float64, light: Float64) -> tuple[float, float, Float64]:
        """Dark level, gain per second of light, and what is left."""
        x = self.overlap(d, begin, lasting)
        centred = x - x.mean()
        square = float(centred @ centred)
        gain = max(float(centred @ light) / square, 0.0) if square else 0.0
        dark = float(light.mean() - gain * x.mean())
        return dark, gain, light - dark - gain * x

    def misfit(self, d: float, begin: Float64, lasting: Float64, light: Float64) -> float:
        """Mean square of what is left."""
        rest = self.fitted(d, begin, lasting, light)[2]
        return float(rest @ rest) / rest.size

    def per_flash(self, d: float, begin: Float64, lasting: Float64, gain: float, rest: Float64) -> Float64:
        """The delay by which each flash alone would differ, by one Gauss-Newton step; NaN where it tells nothing."""
        slope = self.slope(d, begin, lasting) * gain
        here = slope != 0.0
        middle = begin[here] + d + lasting[here] / 2
        which = np.clip(np.searchsorted(self.on + self.length / 2, middle), 0, self.on.size - 1)
        left = np.maximum(which - 1, 0)
        nearer = np.abs(self.on[left] + self.length / 2 - middle) < np.abs(self.on[which] + self.length / 2 - middle)
        which = np.where(nearer, left, which)
        square = np.bincount(which, slope[here] ** 2, self.on.size)
        across = np.bincount(which, slope[here] * rest[here], self.on.size)
        alone: Float64 = np.full(square.shape, np.nan)
        np.divide(across, square, out=alone, where=square > 0.0)
        return alone

    def _on(self, t: Float64) -> Float64:
        return np.asarray(np.searchsorted(self._at, t, side="right") % 2, np.float64)


def _projected(slope: Float64, overlap: Float64) -> Float64:
    """What of the slope neither a change of the dark level nor of the gain could explain."""
    basis = np.column_stack([np.ones_like(overlap), overlap])
    found, *_ = np.linalg.lstsq(basis, slope, rcond=None)
    return np.asarray(slope - basis @ found)


def _minimum(cost: Callable[[float], float], low: float, high: float) -> float:
    """Golden section, to a millionth of the bracket."""
    ratio = (np.sqrt(5.0) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = cost(a), cost(b)
    for _ in range(30):
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = cost(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = cost(b)
    return float(low + high) / 2
