"""Values between readings of a quantity that changes continuously: a temperature, a flow, a pressure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hal.frames.channel import Aligned
from hal.frames.frame import Codes, Float32, Float64, Int64
from hal.frames.piece import Piece, pieces
from hal.frames.place import Block, Places, Seen
from hal.frames.readings import (
    Readings,
    cumulative,
    finish,
    long_exposures,
    reasons,
    single,
    unknown,
    whole_exposures,
)
from hal.frames.uncertain import run_lengths, spread_of, terms


class Line:
    """A linear channel: sigma^2 = (1-u) e0 + u e1 + c q + d q^2 with q = u (1 - u), e0 and e1 at the two readings.

    To e the frame's own sigma_t adds slope^2 sigma_t^2 (`slope2`, per s^2). Uncertainties are there after `prepare`.
    """

    def __init__(self, r: Readings) -> None:
        self.r = r
        self.v0, self.dv = r.value[:-1], r.value[1:] - r.value[:-1]
        m = r.x.size
        self.ends, self.slope2 = np.zeros(m, np.float32), np.zeros(m, np.float32)
        self.c, self.d = np.zeros(max(m - 1, 0), np.float32), np.zeros(max(m - 1, 0), np.float32)
        self.bent = False

    def prepare(self, p: Piece) -> None:
        """Work out the uncertainties between the readings of a piece."""
        t, r, inside = terms(self.r, p), self.r, slice(p.low, p.high)
        common2 = r.channel.sigma_common**2
        aperture = r.channel.aperture_s * 1e9
        ends = t.ends
        if t.bend2 is not None:
            self.d[inside] = p.chord2 * t.bend2
            self.bent = self.bent or bool(self.d[inside].any())
        c = 4.0 * (t.half - 0.5 * (ends[:-1] + ends[1:]))
        if t.jump2 is not None:
            c = c + t.jump2
        if aperture and t.bend2 is not None:
            c = c + p.dt**2 * aperture**2 / 24.0 * t.bend2
            ends = ends.copy()
            ends[:-1] += aperture**4 / 576.0 * t.bend2
            ends[-1] += aperture**4 / 576.0 * t.bend2[-1]
        self.c[inside] = c
        self.ends[p.low : p.high + 1] = ends + common2
        self.slope2[p.low : p.high + 1] = t.g2 * 1e18

    def on(self, places: Places, uncertainty: bool = True) -> Aligned:
        """Value and sigma for each frame of the film."""
        r = self.r
        if r.x.size < 2:
            return single(r, places)
        n = len(places.film.frames)
        value, sigma = np.empty(n), np.empty(n, np.float32) if uncertainty else unknown(n)
        seen = places.film.seen_by(r.channel.clock)
        ends = self.at_readings(seen)
        for block in places.middle.blocks():
            block.interpolate(self.r.value, self.dv, value[block.frames])
            if uncertainty:
                self.sigma_at(block, sigma[block.frames], seen, ends)
        return self.complete(places, value, sigma, uncertainty)

    def at_readings(self, seen: Seen) -> Float32:
        """sigma^2 of a frame at each reading; of its own time only what all frames share."""
        if seen.even and seen.sigma.size:
            return np.asarray(self.ends + self.slope2 * seen.sigma[0] ** 2)
        return self.ends

    def sigma_at(self, block: Block, out: Float32, seen: Seen, ends: Float32) -> None:
        """Into `out`: uncertainties at the middles of the block's frames; ends: sigma^2 at each reading."""
        down, u = block.weights
        if seen.even:
            first, next_ = block.spread(ends[:-1]), block.spread(ends[1:])
        else:
            time2 = seen.sigma[block.frames] ** 2
            first, next_ = (
                block.spread(e) + time2 * block.spread(s)
                for e, s in ((ends[:-1], self.slope2[:-1]), (ends[1:], self.slope2[1:]))
            )
        next_ *= u
        t = block.spread(self.c)
        t *= u
        if self.bent:
            bend = block.spread(self.d)
            bend *= u
            bend *= u
            bend *= down
            t += bend
        t += first
        t *= down
        t += next_
        np.sqrt(np.maximum(t, np.float32(0.0), out=t), out=out)

    def complete(self, places: Places, value: Float64, sigma: Float32, uncertainty: bool) -> Aligned:
        """Means where exposures are long, and nothing where the data break off."""
        reason, exact = reasons(self.r, places)
        if exact.size:
            value[exact] = self.r.value[places.middle.k[exact]]
        for part in long_exposures(self.r, places, exact):
            reason = reason if reason.flags.writeable else reason.copy()
            self._means(places, part, value, sigma, reason, uncertainty)
        return finish(value, sigma, reason, places)

    def _means(
        self, places: Places, long: Int64, value: Float64, sigma: Float32, reason: Codes, uncertainty: bool
    ) -> None:
        """Replace value, sigma and reason of the frames `long` by means over their exposures."""
        r, sums = self.r, self._sums
        length = places.film.exposure(long)
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
        i, p = places.middle.k[long], places.middle.u[long]
        one, dt = np.maximum(errors.each[i], errors.each[i + 1]), r.dt[i]
        # Weights of n = E / dt readings under a trapezoid, and so much more of those that resemble their neighbours.
        like = errors.like[i]
        noise = between(errors.noise) * like / (length + (0.467 + 0.8 * (like - 1.0)) * dt + 0.35 * dt * dt / length)
        noise = np.minimum(noise / length, one)
        if errors.shared:
            point = one * (1.0 - 2.0 * errors.share[i] * p * (1.0 - p))
            noise = np.where(errors.clock2[i] > 0, np.minimum(noise, point), noise)
        ends = self.v0[kb] + rise_b - self.v0[ka] - rise_a
        slope2 = np.maximum(ends**2 - 4.0 / 3.0 * one, 0.0) / length**2
        frame2 = (places.film.seen_by(r.channel.clock).sigma[long] * 1e9) ** 2
        total = noise + slope2 * (errors.delay2[i] + frame2)
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
        r = self.r
        p = Piece(r, 0, r.x.size - 1)
        t, none = terms(r, p), np.zeros(r.dt.size)
        age2, _ = p.ages
        same = r.usable & (self.dv == 0.0)
        apart = t.noise[:-1] + t.noise[1:]
        if t.ages is not None:
            apart += np.where(p.together, 0.0, t.ages[:-1] + t.ages[1:])
        share = np.ones(r.dt.size) if t.share is None else np.where(same, 1.0, t.share)
        # As if each were so much like the one before it (a first-order lag): share = 1 - (2 rho - rho^2 / 2) / 1.5.
        rho = 2.0 - np.sqrt(4.0 - 3.0 * (1.0 - share))
        slope = p.across(r.value) / np.maximum(p.across(r.x), 1.0)
        return _ErrorSums(
            each=t.noise,
            share=np.where(same, 0.0, share),
            like=(1.0 + rho) / np.maximum(1.0 - rho, 1e-3),
            noise=cumulative(0.5 * apart * run_lengths(same, r.dt) * r.dt),
            bend=cumulative(np.diff(slope) * (r.dt**2 / 12.0 + (1e9 * r.channel.aperture_s) ** 2 / 24.0)),
            jump=cumulative(none if t.jump2 is None else t.jump2 / 12.0 * r.dt**2),
            clock2=np.where(p.together, np.maximum(age2[:-1], age2[1:]), 0.0),
            delay2=np.maximum(r.delay2[:-1], r.delay2[1:]),
            shared=bool(p.together.any()),
        )


def prepare(lines: Sequence[Line]) -> None:
    """The uncertainties of lines read at the same times; what times alone tell, once for those without breaks."""
    alike = [line for line in lines if line.r.whole and _as_old(line.r, lines[0].r)]
    apart = [[line] for line in lines if not any(line is other for other in alike)]
    for some in [alike, *apart] if alike else apart:
        if some[0].r.x.size > 1:
            for piece in pieces(some[0].r):
                for line in some:
                    line.prepare(piece)


def _as_old(r: Readings, other: Readings) -> bool:
    return r.channel.max_age_s == other.channel.max_age_s and np.array_equal(r.width, other.width)


@dataclass(frozen=True, slots=True)
class _Sums:
    """What means over exposures take differences of: sums up to each reading."""

    middle: float
    area: Float64
    broken: Float64


@dataclass(frozen=True, slots=True)
class _ErrorSums:
    """The same of sigma^2; noise^2 of each reading; per interval what of it averages, and what doesn't."""

    each: Float64
    share: Float64
    like: Float64
    noise: Float64
    bend: Float64  # of the chords' errors, which change sign as the curvature does
    jump: Float64
    clock2: Float64
    delay2: Float64
    shared: bool
