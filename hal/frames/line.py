"""Values between readings of a quantity that changes continuously: a temperature, a flow, a pressure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hal.frames.channel import Aligned
from hal.frames.frame import Codes, Float32, Float64, Int64, Mask
from hal.frames.piece import LOOKBACK, Piece, pieces
from hal.frames.place import Block, Places, Seen
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
        t, r, inside = self._terms(p), self.r, slice(p.low, p.high)
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

    def _terms(self, p: Piece) -> _Terms:
        r, at = self.r, slice(p.low, p.high + 1)
        dv = self.dv[p.low : p.high]
        usable = None if r.whole else r.usable[p.low : p.high]
        noise = r.sigma[at] ** 2
        g2 = self._slope2(p)
        gauss = noise
        if r.delayed:
            late = g2 * r.delay2[at]
            gauss = noise + late
        # The very same value twice is one internal reading asked for twice: its noise doesn't average.
        a, b = noise[:-1], noise[1:]
        half = 0.25 * (a + b)
        twice: Float64 | None = None
        same = dv == 0.0 if usable is None else usable & (dv == 0.0)
        if same.any():
            twice = np.where(same, np.sqrt(a * b), 0.0)
            half += 0.5 * twice
        if r.delayed:
            half += 0.5 * (late[:-1] + late[1:])
        ends = gauss
        ages: Float64 | None = None
        if p.wide:
            # Ages that neighbours share stay as they are half-way, others average (and become less uniform).
            age2, alike = p.ages
            ages = g2 * age2
            ends = spread_of(gauss, ages, alike)
            part = np.where(self._together(p, gauss, ages), 1.0, 0.5)
            half = spread_of(half, part * 0.5 * (ages[:-1] + ages[1:]), part * 0.5 * (alike[:-1] + alike[1:]))
        sums2 = a + b
        return _Terms(noise, g2, ages, twice, ends, half, self._bend2(p), self._jump2(p, dv, sums2, usable))

    def _slope2(self, p: Piece) -> Float64:
        """Squared slope at each reading, per ns^2, over at least its neighbours and at least +-w.

        A shorter base would take noise (or the stairs of an instrument's cache) for a slope; and what
        noise alone would show as a slope is none.
        """
        r = self.r
        square = r.value.take(p.after, mode="clip")
        square -= r.value.take(p.before, mode="clip")
        square *= square
        square -= pick(r.sigma, p.after) ** 2 + pick(r.sigma, p.before) ** 2
        np.maximum(square, 0.0, out=square)
        square *= p.per_base2
        return square

    def _together(self, p: Piece, gauss: Float64, ages: Float64) -> Mask:
        """Intervals whose two readings share one error of time, as far as is known.

        Ages in overlapping intervals may be independent all the same (a bus on which others are served first).
        Then readings scatter about the line through their neighbours by as much as their ages make them, where
        a saw-tooth's don't, but for a few. Judged by the last `LOOKBACK` readings, where ages rule the error.
        """
        r, together = self.r, p.together
        if r.x.size < 3 or not together.any() or not (ages > 4.0 * gauss).any():
            return together
        long = p.longer
        error = r.sigma[long.low : long.high + 1] ** 2
        late = self._slope2(long)
        scatter = late * long.ages[0]
        if r.delayed:
            error = error + late * r.delay2[long.low : long.high + 1]
        telling = (scatter > 4.0 * error)[1:-1] & long.together[1:] & long.together[:-1]
        if not r.whole:
            telling &= r.usable[long.low + 1 : long.high] & r.usable[long.low : long.high - 1]
        first, second = long.between
        value = r.value[long.low : long.high + 1]
        off = value[1:-1] - first * value[:-2] - second * value[2:]
        expected = (1.0 + first**2 + second**2) * (error + scatter)[1:-1]
        far = telling & (off**2 > _MEDIAN * expected)

        def recent(found: Mask) -> Int64:
            """How many of the readings up to each interval's first one."""
            total = np.concatenate([np.zeros(LOOKBACK + 1, np.int64), np.cumsum(found)])
            at = np.arange(p.low, p.high) - long.low  # found[i - 1] belongs to reading i
            begun = at if r.run is None else np.maximum(at, r.run[0][p.low : p.high] - long.low + LOOKBACK)
            return np.asarray(total[LOOKBACK + at] - total[np.minimum(begun, LOOKBACK + at)])

        known = recent(telling)
        return together & ~((known >= 3 * LOOKBACK // 4) & (3 * recent(far) > known))

    def _bend2(self, p: Piece) -> Float64 | None:
        """Squared second derivative within each interval, as far as noise can't explain it; None: nowhere."""
        r = self.r
        low, high = max(p.low - 1, 0), min(p.high + 2, r.x.size)  # readings with one more on either side
        if high - low < 3:
            return None
        noise = r.sigma[low:high] ** 2
        rate, slope = p.rate, self.dv[low : high - 1] * p.rate
        found = np.diff(slope)
        found *= found
        from_noise = noise[:-2] * p.squares[0] + noise[1:-1] * p.squares[1] + noise[2:] * p.squares[2]
        from_noise *= _CLEAR
        found -= from_noise
        if not r.whole:
            found[~(r.usable[low : high - 2] & r.usable[low + 1 : high - 1])] = 0.0
        if found.max() <= 0.0:
            return None
        np.maximum(found, 0.0, out=found)
        mean = 0.5 * (1.0 / rate[:-1] + 1.0 / rate[1:])
        bend2 = np.zeros(p.high - p.low + 1)
        first = low + 1 - p.low
        bend2[first : first + found.size] = found / mean**2
        return np.maximum(bend2[:-1], bend2[1:])

    def _jump2(self, p: Piece, dv: Float64, noise: Float64, usable: Mask | None) -> Float64 | None:
        """Squared jump at an unknown place in each interval: truth is one end or the other; None: nowhere.

        What the slopes on either side explain, with readings 2 w further apart than stamped, is no jump.
        noise: of both readings.
        """
        least = 2 * _CLEAR * noise
        step = np.abs(dv)
        if not (step * step > least).any():
            return None
        r, at = self.r, slice(p.low, p.high + 1)
        before, after = p.farther
        v, x = r.value[at], r.x[at]
        falling = np.abs(v - r.value.take(before)) / np.maximum(x - r.x.take(before), 1.0)
        rising = np.abs(r.value.take(after) - v) / np.maximum(r.x.take(after) - x, 1.0)
        calm = np.maximum(falling[:-1], rising[1:])
        step -= calm * p.reach
        np.maximum(step, 0.0, out=step)
        step *= step
        step -= least
        np.maximum(step, 0.0, out=step)
        return step if usable is None else np.where(usable, step, 0.0)

    def on(self, places: Places, uncertainty: bool = True) -> Aligned:
        """Value and sigma for each frame of the film."""
        r = self.r
        if r.x.size < 2:
            return single(r, places)
        value = places.middle.interpolated(r.value)
        if not uncertainty:
            return self.complete(places, value, unknown(value.size), uncertainty)
        sigma = np.empty(value.size, np.float32)
        seen = places.film.seen_by(r.channel.clock)
        ends = Ends.of(self, seen)
        for block in places.middle.blocks():
            self.sigma_at(block, sigma, seen, ends)
        return self.complete(places, value, sigma, uncertainty)

    def at_readings(self, seen: Seen) -> Float32:
        """sigma^2 of a frame at each reading; of its own time only what all frames share."""
        if seen.even and seen.sigma.size:
            return np.asarray(self.ends + self.slope2 * seen.sigma[0] ** 2)
        return self.ends

    def sigma_at(self, block: Block, sigma: Float32, seen: Seen, ends: Ends) -> None:
        """Uncertainties at the middles of the block's frames, written where they belong."""
        at = block.frames
        u = block.u.astype(np.float32)
        down = np.float32(1.0) - u
        s = sigma[at]
        block.spread(self.c, s)
        if self.bent:
            t = block.spread(self.d)
            t *= down
            t *= u
            s += t
        s *= down
        s += block.spread(ends.rise)
        s *= u
        s += block.spread(ends.first)
        if not seen.even:
            g = block.spread(ends.slope2_rise)
            g *= u
            g += block.spread(self.slope2)
            g *= seen.sigma[at]
            g *= seen.sigma[at]
            s += g
        np.maximum(s, np.float32(0.0), out=s)
        np.sqrt(s, out=s)

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
        one = np.maximum(errors.each[i], errors.each[i + 1])
        noise = between(errors.noise) / (length * (length + 0.6 * r.dt[i]))
        if errors.shared:
            p = places.middle.u[long]
            point = ((1 - p) ** 2 + p**2) * one + 2 * errors.twice[i] * p * (1 - p)
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
        t, none = self._terms(p), np.zeros(r.dt.size)
        age2, _ = p.ages
        same = r.usable & (self.dv == 0.0)
        apart = t.noise[:-1] + t.noise[1:]
        if t.ages is not None:
            apart += np.where(p.together, 0.0, t.ages[:-1] + t.ages[1:])
        return _ErrorSums(
            each=t.noise,
            twice=none if t.twice is None else t.twice,
            noise=cumulative(0.5 * apart * run_lengths(same, r.dt) * r.dt),
            # Chords err to the same side.
            bend=cumulative(none if t.bend2 is None else np.sqrt(t.bend2) / 12.0 * r.dt**3),
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
class Ends:
    """sigma^2 of a frame at each reading, and what is to be added up to the next; the same for its squared slope."""

    first: Float32
    rise: Float32
    slope2_rise: Float32

    @classmethod
    def of(cls, line: Line, seen: Seen) -> Ends:
        """For frames whose times are as uncertain as `seen` says."""
        first = line.at_readings(seen)
        return cls(first, np.diff(first), np.diff(line.slope2))


@dataclass(frozen=True, slots=True)
class _Terms:
    """Parts of sigma^2 over a piece: per reading (noise to ends), and per interval; None where there is nothing."""

    noise: Float64
    g2: Float64  # squared slope, per ns^2
    ages: Float64 | None
    twice: Float64 | None
    ends: Float64
    half: Float64
    bend2: Float64 | None
    jump2: Float64 | None


@dataclass(frozen=True, slots=True)
class _Sums:
    """What means over exposures take differences of: sums up to each reading."""

    middle: float
    area: Float64
    broken: Float64


@dataclass(frozen=True, slots=True)
class _ErrorSums:
    """The same of sigma^2; noise^2 of each reading; per interval the variances that don't average."""

    each: Float64
    twice: Float64
    noise: Float64
    bend: Float64
    jump: Float64
    clock2: Float64
    delay2: Float64
    shared: bool


_MEDIAN = 0.455  # of the square of a standard normal error
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
