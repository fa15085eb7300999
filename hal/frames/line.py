"""Values between readings of a quantity that changes continuously: a temperature, a flow, a pressure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hal.frames.channel import Aligned
from hal.frames.frame import Codes, Float32, Float64, FrameTimes, Int64, Mask
from hal.frames.place import Block, Places
from hal.frames.readings import Readings, cumulative, finish, long_exposures, reasons, single, unknown, whole_exposures


class Line:
    """A linear channel: per interval, sigma^2 = a + b u + c q + d q^2 with q = u (1 - u)."""

    def __init__(self, r: Readings, uncertainty: bool = True) -> None:
        self.r = r
        if r.x.size < 2:
            return
        self.v0, self.dv = r.value[:-1], np.diff(r.value)
        if uncertainty:
            self._uncertainty()

    def _uncertainty(self) -> None:
        r = self.r
        noise, together = r.sigma**2, r.together
        a, b = noise[:-1], noise[1:]
        g2 = self.g2 = self._slope2(noise)
        late = g2 * r.delay2
        gauss, ages = noise + late, g2 * (r.width**2 / 3.0)

        # The very same value twice is one internal reading asked for twice: its noise doesn't average.
        same = r.usable & (self.dv == 0.0)
        twice = np.where(same, np.sqrt(a * b), 0.0)
        half = 0.25 * (a + b) + 0.5 * twice + 0.5 * (late[:-1] + late[1:])
        if ages.any():
            # Ages that neighbours share stay as they are half-way, others average (and become less uniform).
            part = np.where(together, 1.0, 0.5)
            ends = spread_of(gauss, ages)
            half = spread_of(half, part * 0.5 * (ages[:-1] + ages[1:]), part)
        else:
            ends = gauss

        bend2 = self._bend2(noise)
        jump2 = self._jump2(noise)
        span = r.channel.aperture_s * 1e9
        q2 = 0.25 * r.dt**4 * bend2
        q1 = jump2 + r.dt**2 * span**2 / 24.0 * bend2
        q0 = span**4 / 576.0 * bend2
        common2 = r.channel.sigma_common**2
        self.a = (ends[:-1] + (q0 + common2)).astype(np.float32)
        self.b = np.diff(ends).astype(np.float32)
        self.c = (4.0 * (half - 0.5 * (ends[:-1] + ends[1:])) + q1).astype(np.float32)
        self.d = q2.astype(np.float32)
        self.bent = bool(self.d.any())
        self.s0, self.s1 = g2[:-1].astype(np.float32), np.diff(g2).astype(np.float32)  # per ns^2: for frame times

        self.noise, self.ages, self.twice, self.together = noise, ages, twice, together
        self.jump2, self.q2 = jump2, q2

    def _slope2(self, noise: Float64) -> Float64:
        """Squared slope at each reading, per ns^2, over at least its neighbours and at least +-w.

        A shorter base would take noise (or the stairs of an instrument's cache) for a slope; and what
        noise alone would show as a slope is none.
        """
        r = self.r
        before, after = r.neighbours(r.width)
        base = np.maximum(r.x[after] - r.x[before], 1.0)
        square = (r.value[after] - r.value[before]) ** 2 - (noise[after] + noise[before])
        return np.asarray(np.maximum(square, 0.0) / base**2)

    def _bend2(self, noise: Float64) -> Float64:
        """Squared second derivative within each interval, as far as noise can't explain it."""
        r = self.r
        m = r.x.size
        bend2 = np.zeros(m)
        if m > 2:
            rate = 1.0 / r.dt
            d1, d2 = rate[:-1], rate[1:]
            slope = self.dv * rate
            mean = 0.5 * (r.dt[:-1] + r.dt[1:])
            from_noise = noise[:-2] * d1**2 + noise[1:-1] * (d1 + d2) ** 2 + noise[2:] * d2**2
            found = ((slope[1:] - slope[:-1]) ** 2 - _CLEAR * from_noise) / mean**2
            bend2[1:-1] = np.where(r.usable[1:] & r.usable[:-1], np.maximum(found, 0.0), 0.0)
        return np.maximum(bend2[:-1], bend2[1:])

    def _jump2(self, noise: Float64) -> Float64:
        """Squared jump at an unknown place in each interval: truth is one end or the other.

        What the slopes on either side explain, with readings 2 w further apart than stamped, is no jump.
        """
        r = self.r
        before, after = r.neighbours(2.0 * r.width)
        v, x = r.value, r.x
        falling = np.abs(v - v[before]) / np.maximum(x - x[before], 1.0)
        rising = np.abs(v[after] - v) / np.maximum(x[after] - x, 1.0)
        calm = np.maximum(falling[:-1], rising[1:])
        jump = np.maximum(np.abs(self.dv) - calm * (r.dt + r.width[:-1] + r.width[1:]), 0.0)
        return np.where(r.usable, np.maximum(jump**2 - 2 * _CLEAR * (noise[:-1] + noise[1:]), 0.0), 0.0)

    def on(self, places: Places, frames: FrameTimes, uncertainty: bool = True) -> Aligned:
        """Value and sigma for each frame; `frames` as their times compare with the readings'."""
        r = self.r
        if r.x.size < 2:
            return single(r, places)
        n = len(frames)
        place = places.middle
        value = np.empty(n)
        sigma = np.empty(n, np.float32) if uncertainty else unknown(n)
        even = bool(n) and bool((frames.sigma == frames.sigma[0]).all())
        if uncertainty:
            a, b = self.a, self.b
            if even and frames.sigma[0] > 0:
                a, b = a + self.s0 * frames.sigma[0] ** 2, b + self.s1 * frames.sigma[0] ** 2
        for block in place.blocks:
            at = block.frames
            rise = place.spread(self.dv, block)
            rise *= place.u[at]
            np.add(rise, place.spread(self.v0, block), out=value[at])
            if uncertainty:
                self._sigma(places, block, a, b, None if even else frames.sigma[at], sigma[at])
        reason, exact = reasons(r, places)
        if exact.size:
            k = place.k[exact]
            value[exact] = r.value[k]
            if uncertainty:
                one = a[k - 1] + b[k - 1]
                if not even:
                    one += (self.s0[k - 1] + self.s1[k - 1]) * frames.sigma[exact] ** 2
                sigma[exact] = np.sqrt(np.maximum(one, 0.0))
        for part in long_exposures(r, places, exact):
            reason = reason if reason.flags.writeable else reason.copy()
            self._means(places, frames, part, value, sigma, reason, uncertainty)
        return finish(value, sigma, reason)

    def _sigma(
        self, places: Places, block: Block, a: Float32, b: Float32, frame_sigma: Float32 | None, out: Float32
    ) -> None:
        place, at = places.middle, block.frames
        u, q = place.u32[at], place.q32[at]
        if self.bent:
            s = place.spread(self.d, block)
            s *= q
            s += place.spread(self.c, block)
        else:
            s = place.spread(self.c, block)
        s *= q
        if frame_sigma is not None:
            g = place.spread(self.s1, block)
            g *= u
            g += place.spread(self.s0, block)
            g *= frame_sigma
            g *= frame_sigma
            s += g
        t = place.spread(b, block)
        t *= u
        s += t
        s += place.spread(a, block)
        np.maximum(s, np.float32(0.0), out=s)
        np.sqrt(s, out=out)

    def _means(
        self,
        places: Places,
        frames: FrameTimes,
        long: Int64,
        value: Float64,
        sigma: Float32,
        reason: Codes,
        uncertainty: bool,
    ) -> None:
        """Replace value, sigma and reason of the frames `long` by means over their exposures."""
        r, sums = self.r, self._sums
        length = places.film.exposure[long]
        ka, ua = places.start.k[long], places.start.u[long]
        kb, ub = places.stop.k[long], places.stop.u[long]
        reason[long] = whole_exposures(r, places, long, sums.broken)
        rise_a, rise_b = ua * self.dv[ka], ub * self.dv[kb]
        upper = sums.area[kb] + r.dt[kb] * ub * (self.v0[kb] - sums.middle + 0.5 * rise_b)
        lower = sums.area[ka] + r.dt[ka] * ua * (self.v0[ka] - sums.middle + 0.5 * rise_a)
        value[long] = (upper - lower) / length + sums.middle
        if not uncertainty:
            return

        def between(total: Float64) -> Float64:
            top = total[kb] + ub * (total[kb + 1] - total[kb])
            return np.asarray(top - total[ka] - ua * (total[ka + 1] - total[ka]))

        errors = self._error_sums
        # Weights of the readings under a trapezoid: (1/8, 3/4, 1/8) at E = dt; never worse than one reading.
        i = places.middle.k[long]
        one = np.maximum(self.noise[i], self.noise[i + 1])
        noise = between(errors.noise) / (length * (length + 0.6 * r.dt[i]))
        if errors.shared:
            p = places.middle.u[long]
            point = ((1 - p) ** 2 + p**2) * one + 2 * self.twice[i] * p * (1 - p)
            noise = np.where(errors.clock2[i] > 0, np.minimum(noise, point), noise)
        ends = self.v0[kb] + rise_b - self.v0[ka] - rise_a
        slope2 = np.maximum(ends**2 - 4.0 / 3.0 * one, 0.0) / length**2
        total = noise + slope2 * (errors.delay2[i] + frames.sigma[long].astype(np.float64) ** 2)
        if errors.shared:
            total = spread_of(total, slope2 * errors.clock2[i])
        total += (between(errors.bend) ** 2 + between(errors.jump)) / length**2
        sigma[long] = np.sqrt(np.maximum(total, 0.0) + r.channel.sigma_common**2)

    @cached_property
    def _sums(self) -> _Sums:
        r = self.r
        middle = float(r.value.mean())  # sums about it lose fewer digits
        area = cumulative(np.where(r.usable, (self.v0 - middle + 0.5 * self.dv) * r.dt, 0.0))
        return _Sums(middle, area, cumulative(~r.usable))

    @cached_property
    def _error_sums(self) -> _ErrorSums:
        r, together = self.r, self.together
        same = r.usable & (self.dv == 0.0)
        apart = self.noise[:-1] + self.noise[1:] + np.where(together, 0.0, self.ages[:-1] + self.ages[1:])
        return _ErrorSums(
            noise=cumulative(0.5 * apart * run_lengths(same, r.dt) * r.dt),
            bend=cumulative(np.sqrt(self.q2) / 6.0 * r.dt),  # chords err to the same side
            jump=cumulative(self.jump2 / 12.0 * r.dt**2),
            clock2=np.where(together, np.maximum(r.width[:-1], r.width[1:]) ** 2 / 3.0, 0.0),
            delay2=np.maximum(r.delay2[:-1], r.delay2[1:]),
            shared=bool(together.any()),
        )


@dataclass(frozen=True, slots=True)
class _Sums:
    """What means over exposures take differences of: sums up to each reading."""

    middle: float
    area: Float64
    broken: Float64


@dataclass(frozen=True, slots=True)
class _ErrorSums:
    """The same of sigma^2, and per interval the variances of time that don't average."""

    noise: Float64
    bend: Float64
    jump: Float64
    clock2: Float64
    delay2: Float64
    shared: bool


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
    share = np.divide(uniform2, total, out=np.zeros_like(total), where=total > 0)
    kappa = 1.2 * part * share**2
    return np.asarray(total * (1.0 + kappa * (1.0 / 12.0 + 0.0573 * kappa)) ** 2)


def run_lengths(same: Mask, dt: Float64) -> Float64:
    """Per interval the time one internal reading stands for, intervals that repeat it included."""
    if not same.any():
        return dt
    run = np.concatenate([[0], np.cumsum(~same[:-1])])
    return np.asarray(np.bincount(run, dt)[run], np.float64)
