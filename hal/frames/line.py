"""Values between readings of a quantity that changes continuously: a temperature, a flow, a pressure."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hal.frames.channel import Aligned
from hal.frames.frame import Codes, Float32, Float64, FrameTimes, Int64, Reason
from hal.frames.readings import Place, Readings, blocks, cumulative, finish, run_lengths, single, state


class Line:
    """A linear channel: per reading the slope, per interval the terms of sigma^2 as a polynomial in u."""

    def __init__(self, r: Readings) -> None:
        self.r = r
        if r.x.size < 2:
            return
        m, x, v, dt, usable = r.x.size, r.x, r.value, r.dt, r.usable
        noise = r.sigma**2
        delay2 = (r.channel.delay_sigma_s * 1e9) ** 2
        self.v0, self.dv = v[:-1], np.where(usable, np.diff(v), 0.0)
        slope = self.dv / dt

        # Slope at each reading, over at least its neighbours and at least +-w, within one unbroken run:
        # a shorter base would take noise (or the stairs of an instrument's cache) for a slope.
        index = np.arange(m)
        broken = ~usable
        first = np.maximum.accumulate(np.where(np.concatenate([[True], broken]), index, 0))
        last = np.minimum.accumulate(np.where(np.concatenate([broken, [True]]), index, m - 1)[::-1])[::-1]
        before = np.minimum(index - 1, np.searchsorted(x, x - r.width, side="right") - 1)
        after = np.maximum(index + 1, np.searchsorted(x, x + r.width, side="left"))
        before, after = np.maximum(before, first), np.minimum(after, last)
        base = np.maximum(x[after] - x[before], 1.0)
        g2 = ((v[after] - v[before]) / base) ** 2 - (noise[after] + noise[before]) / base**2
        g2 = np.maximum(g2, 0.0)  # what noise alone would show as a slope is no slope

        self.g2 = g2
        timing = g2 * (r.width**2 / 3.0)
        gauss = noise * (2.0 / 3.0) + g2 * delay2
        timing = _half_expanded(timing, gauss)

        # Curvature: error of a chord dt^2/8 |f''|, f'' from second differences that noise can't explain.
        bend2 = np.zeros(m)
        if m > 2:
            d1, d2 = dt[:-1], dt[1:]
            mean = 0.5 * (d1 + d2)
            bend = (slope[1:] - slope[:-1]) / mean
            from_noise = (noise[:-2] / d1**2 + noise[1:-1] * (1 / d1 + 1 / d2) ** 2 + noise[2:] / d2**2) / mean**2
            inside = usable[1:] & usable[:-1]
            bend2[1:-1] = np.where(inside, np.maximum(bend**2 - _CLEAR * from_noise, 0.0), 0.0)
        chord = dt**4 / 4.0 * np.maximum(bend2[:-1], bend2[1:])  # times (u (1-u))^2

        # A jump at an unknown place in one interval: truth is one end or the other, variance u (1-u) J^2.
        # What the slopes on either side explain, with readings 2 w further apart than stamped, is no jump.
        before = np.maximum(np.minimum(index - 1, np.searchsorted(x, x - 2 * r.width, side="right") - 1), first)
        after = np.minimum(np.maximum(index + 1, np.searchsorted(x, x + 2 * r.width, side="left")), last)
        falling = np.abs(v - v[before]) / np.maximum(x - x[before], 1.0)
        rising = np.abs(v[after] - v) / np.maximum(x[after] - x, 1.0)
        calm = np.maximum(falling[:-1], rising[1:])
        jump = np.maximum(np.abs(self.dv) - calm * (dt + r.width[:-1] + r.width[1:]), 0.0)
        jump2 = np.maximum(jump**2 - 2 * _CLEAR * (noise[:-1] + noise[1:]), 0.0)

        a, b, t0, t1 = (noise[:-1], noise[1:], (timing + g2 * delay2)[:-1], (timing + g2 * delay2)[1:])
        common2 = r.channel.sigma_common**2
        # The very same value twice is one internal reading asked for twice: its noise doesn't average.
        same = usable & (self.dv == 0.0)
        twice = np.where(same, 2.0 * np.sqrt(a * b), 0.0)
        span = run_lengths(same, dt)
        self.terms = np.stack([a + t0 + common2, t1 - t0 - 2 * a + jump2 + twice, a + b - jump2 - twice, chord]).astype(
            np.float32
        )
        self.twice = twice
        self.slope2 = np.stack([g2[:-1], np.diff(g2)]).astype(np.float32)  # per ns^2; goes with the frame's own sigma
        # For exposure means: the polynomial's parts again, integrated over the run.
        self.area = cumulative(np.where(usable, (v[:-1] + 0.5 * self.dv) * dt, 0.0))
        self.noise_area = cumulative(0.5 * (a + b) * span * dt)
        self.shape_area = cumulative((jump2 / 12.0 + chord / 36.0) * dt * dt)
        self.clock2 = np.maximum(r.width[:-1], r.width[1:]) ** 2 / 3.0 + delay2
        self.broken_before = np.concatenate([[0], np.cumsum(broken)])

    def on(self, frames: FrameTimes, place: Place) -> Aligned:
        r = self.r
        if r.x.size < 2:
            return single(r, frames, place)
        k, u, reason = state(r, frames, place)
        n = len(frames)
        value, sigma = np.empty(n), np.empty(n, np.float32)
        frame_sigma = frames.sigma
        if n and (frame_sigma == frame_sigma[0]).all():
            terms = self.terms.copy()
            terms[:2] += self.slope2 * frame_sigma[0] ** 2
            per_frame = False
        else:
            terms, per_frame = self.terms, True
        for at in blocks(n):
            i, p = k[at], u[at]
            val = value[at]
            np.take(self.dv, i, out=val, mode="clip")
            val *= p
            val += self.v0.take(i)
            p = p.astype(np.float32)
            s = terms[2].take(i)
            s *= p
            s += terms[1].take(i)
            s *= p
            s += terms[0].take(i)
            if per_frame:
                g = self.slope2[1].take(i)
                g *= p
                g += self.slope2[0].take(i)
                g *= frame_sigma[at] ** 2
                s += g
            p -= p * p
            p *= p
            p *= terms[3].take(i)
            s += p
            np.maximum(s, 0.0, out=s)
            np.sqrt(s, out=sigma[at])
        exposure = (frames.stop - frames.start).astype(np.float64)
        longest = float(exposure.max()) if n else 0.0
        if longest > 0.5 * float(r.dt.min()):
            long = np.flatnonzero((exposure > 0.5 * r.dt.take(k)) & frames.valid)
            if long.size:
                self._means(frames, long, k, u, exposure, value, sigma, reason)
        return finish(value, sigma, reason)

    def _means(
        self,
        frames: FrameTimes,
        long: Int64,
        k: Int64,
        u: Float64,
        exposure: Float64,
        value: Float64,
        sigma: Float32,
        reason: Codes,
    ) -> None:
        """Replace value, sigma and reason of the frames `long` by means over their exposures."""
        r = self.r
        start, stop, length, dt = (frames.start[long], frames.stop[long], exposure[long], r.dt[k[long]])
        ka, ua = self._find(start)
        kb, ub = self._find(stop, side="left")  # an exposure that ends on a reading needs nothing after it
        why = reason[long]
        whole = self.broken_before[kb + 1] == self.broken_before[ka]
        first_bad = np.searchsorted(self.broken_before, self.broken_before[ka], side="right") - 1
        why = np.where(whole, Reason.OK, r.why[np.clip(first_bad, 0, r.why.size - 1)]).astype(np.uint8)
        why[stop > r.time[-1]] = Reason.AFTER_DATA
        why[start < r.time[0]] = Reason.BEFORE_DATA

        def area(i: Int64, p: Float64) -> Float64:
            return self.area[i] + r.dt[i] * p * (self.v0[i] + 0.5 * self.dv[i] * p)

        def between(total: Float64) -> Float64:
            upper = total[kb] + ub * (total[kb + 1] - total[kb])
            lower = total[ka] + ua * (total[ka + 1] - total[ka])
            return np.asarray(upper - lower)

        value[long] = (area(kb, ub) - area(ka, ua)) / length
        # Weights of the readings under a trapezoid: (1/8, 3/4, 1/8) at E = dt; never worse than one reading.
        i, p = k[long], u[long]
        one = np.maximum(r.sigma[i], r.sigma[i + 1]) ** 2
        point = ((1 - p) ** 2 + p**2) * one + self.twice[i] * p * (1 - p)
        noise = np.minimum(between(self.noise_area) / (length * (length + 0.6 * dt)), point)
        ends = self.v0[kb] + ub * self.dv[kb] - self.v0[ka] - ua * self.dv[ka]
        slope2 = np.maximum(ends**2 - 4.0 / 3.0 * one, 0.0) / length**2
        timing = slope2 * (self.clock2[i] + frames.sigma[long].astype(np.float64) ** 2)
        total = noise + _half_expanded(timing, noise) + between(self.shape_area) / length**2
        sigma[long] = np.sqrt(np.maximum(total, 0.0) + r.channel.sigma_common**2)
        reason[long] = why

    def _find(self, time: Int64, side: Literal["left", "right"] = "right") -> tuple[Int64, Float64]:
        k = np.clip(np.searchsorted(self.r.time, time, side=side) - 1, 0, self.r.time.size - 2)
        return k, np.clip((time - self.r.time[k]) / self.r.dt[k], 0.0, 1.0)


_CLEAR = 4.0  # a second difference or a jump counts once it exceeds two sigma of what noise would do


def _half_expanded(uniform2: Float64, gauss2: Float64) -> Float64:
    """The variance to add to gauss2 so that +-2 sigma covers 95 % (expanded uncertainty / 2, GUM 6.2).

    A uniform error never exceeds sqrt(3) of its standard deviations, so 2 would always cover it;
    1 - 0.1376 r^2 - 0.1743 r^4 fits the exact ratio for the sum of both within 0.5 %, where r is the
    uniform's share of the variance.
    """
    total = uniform2 + gauss2
    share2 = np.divide(uniform2, total, out=np.zeros_like(total), where=total > 0) ** 2
    return np.asarray(total * (1.0 - share2 * (0.1376 + 0.1743 * share2)) - gauss2)
