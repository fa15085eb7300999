"""Values of a quantity that stays as it is until it is changed: a set-point, a bias, a valve."""

from __future__ import annotations

import numpy as np

from hal.frames.channel import Aligned
from hal.frames.frame import FrameTimes, Reason
from hal.frames.readings import Place, Readings, cumulative, finish, single, state


class Steps:
    """A step channel: the value of the last reading; sigma is the jump where it is not known which side."""

    def __init__(self, r: Readings) -> None:
        self.r = r
        if r.x.size < 2:
            return
        noise = r.sigma**2
        known = r.good[1:] & r.good[:-1]
        jump = np.where(known, np.abs(np.diff(r.value)), 0.0)
        jump[jump <= 3.0 * np.sqrt(noise[1:] + noise[:-1])] = 0.0  # noise is not a step
        self.jump_in = np.concatenate([[0.0], jump[:-1]])  # at the left reading of each interval
        self.jump_out = jump
        self.reach = r.width + 2e9 * r.channel.delay_sigma_s
        self.area = cumulative(r.value[:-1] * r.dt)
        spread = self.reach[1:] + (r.dt if r.channel.polled else 0.0)
        self.jump2 = np.concatenate([[0.0], np.cumsum(jump**2)])
        self.smear2 = np.concatenate([[0.0], np.cumsum((jump * spread) ** 2 / 3.0)])
        self.broken_before = np.concatenate([[0], np.cumsum(~r.usable)])

    def on(self, frames: FrameTimes, place: Place) -> Aligned:
        r = self.r
        if r.x.size < 2:
            return single(r, frames, place)
        k, u, reason = state(r, frames, place)
        last = np.flatnonzero((u >= 1.0) & (k == r.x.size - 2) & (reason == Reason.OK) & r.good[-1])
        value = r.value.take(k)
        value[last] = r.value[-1]
        left = u * r.dt.take(k)
        slack = frames.bound.astype(np.float64) + 0.5 * (frames.stop - frames.start)
        after = left <= self.reach.take(k) + slack
        before = r.dt.take(k) - left <= self.reach.take(k + 1) + slack
        if r.channel.polled:
            before[:] = True
        step = np.maximum(np.where(after, self.jump_in.take(k), 0.0), np.where(before, self.jump_out.take(k), 0.0))
        noise2 = r.sigma.take(k) ** 2 + r.channel.sigma_common**2
        sigma = np.sqrt(step**2 + noise2).astype(np.float32)
        exposure = (frames.stop - frames.start).astype(np.float64)
        long = np.flatnonzero((exposure > 0.5 * r.dt.take(k)) & frames.valid)
        if long.size:
            start, stop, length = frames.start[long], frames.stop[long], exposure[long]
            ka = np.clip(np.searchsorted(r.time, start, side="right") - 1, 0, r.time.size - 2)
            kb = np.clip(np.searchsorted(r.time, stop, side="left") - 1, 0, r.time.size - 2)
            upper = self.area[kb] + r.value[kb] * np.clip(stop - r.time[kb], 0, r.dt[kb])
            lower = self.area[ka] + r.value[ka] * np.clip(start - r.time[ka], 0, r.dt[ka])
            value[long] = (upper - lower) / length
            reach = np.maximum(self.reach[ka], self.reach[kb]) + frames.bound[long]
            ja = np.searchsorted(r.time, start - reach.astype(np.int64), side="left")
            jb = np.searchsorted(r.time, stop + reach.astype(np.int64), side="right")
            if r.channel.polled:
                jb = np.minimum(jb + 1, r.time.size)
            ja, jb = np.clip(ja - 1, 0, r.dt.size), np.clip(jb - 1, 0, r.dt.size)
            changed2 = np.maximum(self.jump2[jb] - self.jump2[ja], 0.0)
            smear2 = np.maximum(self.smear2[jb] - self.smear2[ja], 0.0) + changed2 * frames.bound[long] ** 2 / 3.0
            sigma[long] = np.sqrt(np.minimum(smear2 / length**2, changed2) + noise2[long])
            whole = self.broken_before[kb + 1] == self.broken_before[ka]
            first_bad = np.searchsorted(self.broken_before, self.broken_before[ka], side="right") - 1
            why = np.where(whole, Reason.OK, r.why[np.clip(first_bad, 0, r.why.size - 1)]).astype(np.uint8)
            why[stop > r.time[-1]] = Reason.AFTER_DATA
            why[start < r.time[0]] = Reason.BEFORE_DATA
            reason[long] = why
        return finish(value, sigma, reason)
