"""Values of a quantity that stays as it is until it is changed: a set-point, a bias, a valve."""

from __future__ import annotations

import numpy as np

from hal.frames.channel import Aligned
from hal.frames.frame import Codes, Float32, Float64, Int64
from hal.frames.place import Block, Places
from hal.frames.readings import (
    Readings,
    cumulative,
    finish,
    long_exposures,
    pick,
    reasons,
    single,
    unknown,
    whole_exposures,
)
from hal.frames.uncertain import run_lengths, spread_of


class Steps:
    """A step channel: the value of the last reading; sigma is the jump where it is not known which side."""

    def __init__(self, r: Readings) -> None:
        self.r = r
        if r.x.size < 2:
            return
        self.broken_before = cumulative(~r.usable)
        self.area = cumulative(r.value[:-1] * r.dt)
        self.reach = r.width + 2.0 * np.sqrt(r.delay2)
        self.noise2 = r.sigma**2 + r.channel.sigma_common**2
        known = r.good[1:] & r.good[:-1]
        jump = np.where(known, np.abs(np.diff(r.value)), 0.0)
        jump[jump <= 3.0 * np.sqrt(r.sigma[1:] ** 2 + r.sigma[:-1] ** 2)] = 0.0  # noise is not a step
        self.jump_in = np.concatenate([[0.0], jump[:-1]])  # at the left reading of each interval
        self.jump_out = jump
        self.jump2 = cumulative(jump**2)
        self.smear2 = cumulative((jump * self.reach[1:]) ** 2 / 3.0)
        if r.channel.polled:
            self.held2 = cumulative((jump * r.dt) ** 2 / 3.0)
        # The very same value again is one reading, not another.
        self.own2 = cumulative(r.sigma[:-1] ** 2 * r.dt * run_lengths(np.diff(r.value) == 0.0, r.dt))

    def on(self, places: Places, uncertainty: bool = True) -> Aligned:
        """Value and sigma for each frame of the film."""
        r = self.r
        if r.x.size < 2:
            return single(r, places)
        n = len(places.film.frames)
        value = np.empty(n)
        sigma = np.empty(n, np.float32) if uncertainty else unknown(n)
        for block in places.middle.blocks():
            found = value[block.frames]
            found[:] = block.spread(r.value)
            if r.good[-1] and block.late is not None:
                found[block.late] = r.value[-1]
            if uncertainty:
                self._sigma(places, block, sigma[block.frames])
        reason, exact = reasons(r, places)
        if exact.size:
            value[exact] = r.value[places.middle.k[exact]]
        for part in long_exposures(r, places, exact):
            reason = reason if reason.flags.writeable else reason.copy()
            self._means(places, part, value, sigma, reason, uncertainty)
        return finish(value, sigma, reason, places)

    def _sigma(self, places: Places, block: Block, out: Float32) -> None:
        r, at = self.r, block.frames
        noise2 = pick(self.noise2, block.k)
        inside = slice(int(block.k.min()), int(block.k.max()) + 1)
        if self.jump_in[inside].any() or self.jump_out[inside].any():
            slack = places.film.seen_by(r.channel.clock).bound[at] + 0.5 * places.film.exposure(at)
            length = block.spread(r.dt)
            since = block.u * length
            after = since <= block.spread(self.reach) + slack
            jump = np.where(after, block.spread(self.jump_in), 0.0)
            out_there = block.spread(self.jump_out)
            before = length - since <= block.spread(self.reach[1:]) + slack
            if r.channel.polled:
                # It changed anywhere between the polls: at u, with probability u before this frame. Half
                # the jump (held by 2 sigma) will do up to 32 %, and none up to 5 %.
                between = np.where(block.u > _ONE, 1.0, np.where(block.u > _TWO, 0.5, 0.0))
                out_there *= np.where(before, 1.0, between)
            else:
                out_there *= before
            noise2 = noise2 + np.maximum(jump, out_there) ** 2
        out[:] = np.sqrt(noise2)

    def _means(
        self, places: Places, long: Int64, value: Float64, sigma: Float32, reason: Codes, uncertainty: bool
    ) -> None:
        """Replace value, sigma and reason of the frames `long` by means over their exposures."""
        r, frames = self.r, places.film.frames
        start, stop, length = frames.start[long], frames.stop[long], places.film.exposure(long)
        ka, ua = places.start.k[long], places.start.u[long]
        kb, ub = places.stop.k[long], places.stop.u[long]
        upper = self.area[kb] + r.value[kb] * ub * r.dt[kb]
        lower = self.area[ka] + r.value[ka] * ua * r.dt[ka]
        value[long] = (upper - lower) / length
        reason[long] = whole_exposures(r, places, long, self.broken_before)
        if not uncertainty:
            return
        bound = places.film.seen_by(r.channel.clock).bound[long]
        reach = np.maximum(self.reach[ka], self.reach[kb]) + bound
        ja = np.searchsorted(r.time, start - reach.astype(np.int64), side="left")
        jb = np.searchsorted(r.time, stop + reach.astype(np.int64), side="right")
        ja, jb = np.clip(ja - 1, 0, r.dt.size), np.clip(jb - 1, 0, r.dt.size)
        changed2 = np.maximum(self.jump2[jb] - self.jump2[ja], 0.0)
        unsure2 = np.maximum(self.smear2[jb] - self.smear2[ja], 0.0) + changed2 * bound.astype(np.float64) ** 2 / 3.0
        one, inner = ka == kb, np.minimum(ka + 1, kb)
        if r.channel.polled:
            # The change came somewhere between two polls, and until the second one the old value was held: of the
            # first interval of the exposure a part counts, and of the last.
            first, last = self.jump_out[ka] * r.dt[ka], self.jump_out[kb] * r.dt[kb]
            rest, inside = 1.0 - ua, ub - ua
            within = (inside * first) ** 2 * (ua + inside / 3.0)
            across = (rest * first) ** 2 * (ua + rest / 3.0) + last**2 * ub**3 / 3.0
            unsure2 += np.where(one, within, across + self.held2[kb] - self.held2[inner])
            changed2 += self.jump_out[ka] ** 2 + self.jump_out[kb] ** 2
        each2 = r.sigma[ka] ** 2, r.sigma[kb] ** 2
        ends2 = each2[0] * ((1.0 - ua) * r.dt[ka]) ** 2 + each2[1] * (ub * r.dt[kb]) ** 2
        own2 = np.minimum((self.own2[kb] - self.own2[inner] + ends2) / length**2, np.maximum(*each2))
        noise2 = np.where(one, each2[0], own2) + r.channel.sigma_common**2
        sigma[long] = np.sqrt(np.minimum(spread_of(noise2, unsure2 / length**2), noise2 + changed2))


_ONE, _TWO = 0.3173, 0.0455
"""How often a normally distributed error exceeds one and two standard deviations."""
