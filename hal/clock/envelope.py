"""A detector's own clock on lab time, from nothing but when its frames arrived (one way).

arrival = true time + delay, and delay >= the smallest delay. So all arrivals lie above a line over
the detector's ticks, and the frames that were hardly delayed touch it: the lower envelope
(S. B. Moon, P. Skelly, D. Towsley, INFOCOM 1999; L. Zhang, Z. Liu, C. H. Xia, INFOCOM 2002). Late frames
lift nothing. The smallest delay itself can't be seen one way: it is declared, with its uncertainty.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from hal.errors import ClockError

from .health import ClockHealth
from .lab_times import Float64, Int64, LabTimes, Mask


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is known of one span between two resets of the detector's clock."""

    first_tick: int
    last_tick: int
    first_arrival: int  # ns since the UNIX epoch
    last_arrival: int
    rate_ppm: float  # by how much a detector second is longer than a lab second, at the end of the span
    sigma: float  # ns, at the end of the span
    bound: int
    settled: bool  # enough arrivals for the data to tell the uncertainty


class EnvelopeClock:
    """Online and offline alike: `add` ticks with their arrivals as they come, map with `to_lab`.

    frequency      ticks per second, nominal
    ppm            the datasheet's limit on the rate error
    latency        s, smallest delay from the stamped event to the arrival; subtracted
    latency_sigma  s, its standard uncertainty
    late_max       s, no frame arrives later; larger differences mean another epoch or a corrupted tick
    window         s of data that one straight line describes
    wander         1/s, how fast the rate changes (crystal with temperature)
    memory         points kept per epoch; older ones are thinned beyond it

    The result does not depend on how the ticks were cut into chunks. Ticks must be given in the
    order of arrival, arrivals as int64 ns since the UNIX epoch.
    """

    __slots__ = (
        "_frozen",
        "_pending",
        "_scale",
        "_spans",
        "_trouble",
        "frequency",
        "late_max",
        "latency",
        "latency_sigma",
        "memory",
        "name",
        "ppm",
        "wander",
        "window",
    )  # fmt: skip

    def __init__(
        self,
        *,
        frequency: float = 1e9,
        ppm: float = 50.0,
        latency: float = 0.0,
        latency_sigma: float = 0.0,
        late_max: float = 10.0,
        window: float = 60.0,
        wander: float = 8e-9,
        memory: int = 1 << 18,
        name: str = "detector",
    ) -> None:
        if frequency <= 0 or ppm <= 0 or latency_sigma < 0 or late_max <= 0 or window <= 0 or memory < 1024:
            raise ClockError(
                f"{name}: frequency, ppm, late_max or window is not positive, or memory below 1024; "
                "check the clock's declaration"
            )
        self.name, self.ppm, self.latency, self.latency_sigma = (name, ppm, latency, latency_sigma)
        self.late_max, self.window, self.wander, self.memory = (late_max, window, wander, memory)
        self.frequency, self._scale = frequency, 1e9 / frequency
        self._spans: list[_Span] = []
        self._pending: list[tuple[int, int]] = []
        self._frozen = False
        self._trouble = ""
        """The last mistake, in words."""

    @classmethod
    def fit(
        cls,
        ticks: Int64,
        arrivals: Int64,
        *,
        frequency: float = 1e9,
        ppm: float = 50.0,
        latency: float = 0.0,
        latency_sigma: float = 0.0,
        name: str = "detector",
    ) -> EnvelopeClock:
        """The clock of a whole run at once; the same as one `add` of everything."""
        clock = cls(frequency=frequency, ppm=ppm, latency=latency, latency_sigma=latency_sigma, name=name)
        clock.add(ticks, arrivals)
        return clock

    def add(self, ticks: Int64, arrivals: Int64) -> None:
        """Take in ticks and their arrivals, both int64 of shape (n,), in order of arrival.

        Raises `ClockError` for shapes that don't fit, nothing else: a frame is worth more than its time by arrival.
        """
        c, a = np.asarray(ticks, np.int64), np.asarray(arrivals, np.int64)
        if c.shape != a.shape or c.ndim != 1:
            raise ClockError(f"{self.name}: {c.size} ticks came with {a.size} arrivals; give one arrival per tick")
        try:
            at = 0
            while at < c.size:
                at = self._careful(c, a, at) if self._pending or not self._spans else self._quick(c, a, at)
        except Exception as error:
            self._mistaken(error)
            self._spans.clear()
            self.restart()

    def restart(self) -> None:
        """The driver knows of a reset (re-armed, reconnected): the next tick starts an epoch."""
        self._frozen, self._pending = True, []

    def to_lab(self, ticks: Int64, arrivals: Int64 | None = None) -> LabTimes:
        """Lab time of ticks (int64, shape (n,)).

        With their arrivals, each tick is mapped by the epoch it arrived in, and a tick that can't
        have arrived when it did is invalid; without, by the last epoch. A clock that has seen
        nothing is a ClockError.
        """
        if not self._spans and not self._trouble:
            raise ClockError(f"{self.name}: no arrival seen yet, so its ticks have no lab time; add arrivals first")
        c = np.asarray(ticks, np.int64)
        n = c.size
        time, bound = np.zeros(n, np.int64), np.zeros(n, np.int64)
        sigma, epoch = np.full(n, np.inf), np.full(n, -1, np.int32)
        if arrivals is None:
            with suppress(ClockError, IndexError):
                time, bound, sigma = self._map(self._spans[-1], c)
                epoch[:] = len(self._spans) - 1
            return LabTimes(time, bound, bound, sigma, epoch >= 0, epoch)
        a = np.asarray(arrivals, np.int64)
        for number, span in enumerate(self._spans):
            last = number + 1 == len(self._spans)
            here = a >= span.a0
            if not last:
                here &= (a <= self._spans[number + 1].a0) & (c <= span.last_tick)
            here &= c >= span.c0
            at = np.flatnonzero(here)
            if not at.size:
                continue
            try:
                t, b, s = self._map(span, c[at])
            except ClockError:
                continue
            late = a[at] - t
            ok = (late >= -b - 1e6) & (late <= (self.late_max + self.latency) * 1e9 + b)
            at, t, b, s = at[ok], t[ok], b[ok], s[ok]
            time[at], bound[at], sigma[at], epoch[at] = t, b, s, number
        return LabTimes(time, bound, bound, sigma, epoch >= 0, epoch)

    @property
    def running(self) -> bool:
        """An arrival was seen, so that ticks can be mapped."""
        return bool(self._spans)

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        """Every span seen so far, for the record."""
        out = []
        for span in self._spans:
            _, bound, sigma = self._map(span, np.array([span.last_tick]))
            lines = span.lines(self)
            out.append(
                Epoch(
                    span.c0, span.last_tick, span.a0, span.last_arrival, lines.slope[-1] * 1e6,
                    float(sigma[0]), int(bound[0]), lines.settled,
                )
            )  # fmt: skip
        return tuple(out)

    def health(self, now: int) -> ClockHealth:
        """The clock's state at lab time now (ns); never raises."""
        if self._spans:
            with suppress(ClockError):
                return self._health(now)
        reason = self._trouble or f"{self.name}: no frame has arrived yet, so its clock is unknown; arm it"
        return ClockHealth(False, reason, np.inf, 0, 0.0, round(self.late_max * 1e9), np.inf, np.inf, -1, 0)

    # -------------------------------------------------------------------------------- private

    def _mistaken(self, error: Exception) -> None:
        """No mistake in here may end an experiment: it is told."""
        self._trouble = (
            f"{self.name}: frames got no lab time by arrival, for {type(error).__name__}: {error}; please report this. "
            "What is recorded keeps its raw ticks and arrivals, to be aligned again"
        )

    def _health(self, now: int) -> ClockHealth:
        span = self._spans[-1]
        age = (now - span.last_arrival) * 1e-9
        tick = span.last_tick + round(max(age, 0.0) * self.frequency)
        time, bound, sigma = self._map(span, np.array([tick], np.int64))
        lines = span.lines(self)
        x, y = span.newest()
        residual = float(np.median(np.abs(y - lines.at(x, 0.0, 0.0)[0])))
        wait = f"{self.name}: too few prompt frames so far to tell its clock; wait"
        reason = self._trouble if lines.settled else wait
        return ClockHealth(
            lines.settled, reason, age, int(time[0]) - round(tick * self._scale), float(lines.slope[-1] * 1e6),
            int(bound[0]), float(sigma[0]), residual, len(self._spans) - 1, span.count,
        )  # fmt: skip

    def _quick(self, c: Int64, a: Int64, at: int) -> int:
        """Take all ticks up to the next check point that fit the present epoch; else look at one."""
        span = self._spans[-1]
        if self._frozen:
            return self._careful(c, a, at)
        # The check line is renewed at fixed ticks, not at chunk ends: chunking must not change the result.
        x = span.place(c[at : at + 4096], self._scale)
        stop = int(np.argmax(x >= span.next_check)) if (x >= span.next_check).any() else x.size
        if stop == 0:
            if x[0] - span.last_x > self.late_max * 1e9 or x[0] < span.last_x:
                return self._careful(c, a, at)
            span.renew_check(self)
            stop = int(np.argmax(x >= span.next_check)) if (x >= span.next_check).any() else x.size
            if stop == 0:
                return self._careful(c, a, at)
        x = x[:stop]
        y = (a[at : at + stop] - span.a0) - x
        step = np.diff(x, prepend=span.last_x)
        drop = -np.diff(y, prepend=span.last_y)
        odd = (step < 0) | span.outside(self, x, y, drop)
        take = int(np.argmax(odd)) if odd.any() else stop
        if take > 1:
            span.take(x[: take - 1], y[: take - 1], int(c[at + take - 2]), int(a[at + take - 2]))
        if take:
            span.remember()
            last = at + take - 1
            span.take(x[take - 1 : take], y[take - 1 : take], int(c[last]), int(a[last]))
        return at + take if take == stop else self._careful(c, a, at + take)

    def _careful(self, c: Int64, a: Int64, at: int) -> int:
        """Decide about one tick: of this epoch, pending, or the third that agrees on a new epoch."""
        tick, arrival = int(c[at]), int(a[at])
        if not self._spans or self._frozen:
            self._frozen = False
            self._begin([(tick, arrival)])
            return at + 1
        span = self._spans[-1]
        x = span.place(np.array([tick]), self._scale)
        y = (arrival - span.a0) - x
        if x[0] >= span.next_check and x[0] - span.last_x <= self.late_max * 1e9:
            span.renew_check(self)
        drop = span.last_y - y
        if x[0] >= span.last_x and not span.outside(self, x, y, drop)[0]:
            self._pending = []  # the epoch goes on, so what was pending was corrupted
            span.remember()
            span.take(x, y, tick, arrival)
            return at + 1
        if self._pending:
            dx = (tick - self._pending[-1][0]) * self._scale
            da = arrival - self._pending[-1][1]
            if not (0 <= dx <= da + self.late_max * 1e9 and da <= dx + self.late_max * 1e9):
                self._pending = []
        self._pending.append((tick, arrival))
        if len(self._pending) >= 3:
            pending, self._pending = self._pending, []
            if span.forget_last(pending[0], self._scale):
                # The three go on from the frame before: it was the last one that was corrupted.
                for one in pending:
                    self._careful(np.array([one[0]]), np.array([one[1]]), 0)
            else:
                self._begin(pending)
        return at + 1

    def _begin(self, points: list[tuple[int, int]]) -> None:
        span = _Span(*points[0])
        for tick, arrival in points:
            x = span.place(np.array([tick]), self._scale)
            span.take(x, (arrival - span.a0) - x, tick, arrival)
        self._spans.append(span)

    def _map(self, span: _Span, c: Int64) -> tuple[Int64, Int64, Float64]:
        """Time, bound and sigma. Raises `ClockError` where the model is mistaken."""
        try:
            return self._along(span, c)
        except Exception as error:
            self._mistaken(error)
            raise ClockError(self._trouble) from error

    def _along(self, span: _Span, c: Int64) -> tuple[Int64, Int64, Float64]:
        lines = span.lines(self)
        x = span.place(c, self._scale)
        above, excess = lines.at(x, self.ppm * 1e-6, self.wander)
        # Whole ns of x first: x itself may pass 2^53 only after 104 days, but offsets are small always.
        time = (
            span.a0
            + np.rint(x).astype(np.int64)
            + np.rint(above - self.latency * 1e9 + (x - np.rint(x))).astype(np.int64)
        )
        wander = self.wander * 1e-9 * lines.length**2 / 8.0  # sag of a parabola under the chord, ns
        tick = self._scale
        sigma = np.sqrt((self.latency_sigma * 1e9) ** 2 + excess**2 + wander**2 / 3.0 + tick**2 / 12.0)
        bound = np.ceil(3.0 * self.latency_sigma * 1e9 + 3.0 * excess + wander + tick)
        if not lines.settled:
            # A handful of arrivals can all be late together, and nothing in them would tell.
            late = self.late_max * 1e9
            sigma, bound = (np.hypot(sigma, late / np.sqrt(12.0) / lines.count), bound + late)
        return time, np.minimum(bound, 4e18).astype(np.int64), sigma


# One point per block enters the fit: the lowest. At 50 ppm a block smears 0.8 us.
_BLOCK = 1e9 / 64
_SETTLED = 16  # prompt blocks, a quarter of a second of frames, before the data tell their own uncertainty
_QUIET = 1e7  # ns: blocks this near to the line count as prompt; in a queue that drains, one or two are
_ORDER = 4  # the fit's error is of the size of the lowest few residuals; two are zero by construction
_CHECK = 1e9  # ns of ticks between renewals of the line that new ticks are checked against


@dataclass(frozen=True, slots=True)
class _Lines:
    """Overlapping straight lines y = level + slope (x - centre), faded into one another."""

    centre: Float64
    level: Float64
    slope: Float64
    excess: Float64  # ns, standard uncertainty of the level
    span: Float64  # ns, length of the data behind each line
    first: float
    last: float
    count: int
    settled: bool

    @property
    def length(self) -> float:
        return float(self.span.max())

    def at(self, x: Float64, rho: float, wander: float) -> tuple[Float64, Float64]:
        j = np.clip(np.searchsorted(self.centre, x) - 1, 0, max(self.centre.size - 2, 0))
        i = np.minimum(j + 1, self.centre.size - 1)
        gap = np.maximum(self.centre[i] - self.centre[j], 1.0)
        f = np.clip((x - self.centre[j]) / gap, 0.0, 1.0)
        value = (1 - f) * (self.level[j] + self.slope[j] * (x - self.centre[j]))
        value += f * (self.level[i] + self.slope[i] * (x - self.centre[i]))
        near = np.where(f < 0.5, j, i)
        away = np.abs(x - self.centre[near])
        # Standard error of a straight line away from its middle; its slope never worse than the datasheet's.
        tilt = np.minimum(np.sqrt(12.0) * self.excess[near] / np.maximum(self.span[near], 1.0), rho) * away
        outside = np.maximum(np.maximum(self.first - x, x - self.last), 0.0)
        drift = np.minimum(wander * 1e-9 * outside * (outside + self.span[near]) / 2.0, rho * outside)
        return value, np.sqrt(self.excess[near] ** 2 + tilt**2 + drift**2)


class _Span:
    """One epoch: the lowest arrival of every block of ticks, and lines under them."""

    __slots__ = (
        "_before", "_cached", "_check", "_closed", "_x", "_y", "a0", "block", "c0", "count", "last_arrival",
        "last_tick", "last_x", "last_y", "next_check",
    )  # fmt: skip

    def __init__(self, tick: int, arrival: int) -> None:
        self.c0, self.a0 = tick, arrival
        self.last_tick, self.last_arrival, self.last_x, self.last_y = (tick, arrival, 0.0, 0.0)
        self._x, self._y = np.zeros(256), np.zeros(256)
        self.count, self.block = 0, -1
        self.next_check = _CHECK
        self._check: tuple[float, float, float, float] | None = None  # centre, level, slope, tolerance
        self._cached: _Lines | None = None
        self._before: tuple[int, int, tuple[float, float], tuple[int, int, float, float]] | None = None
        self._closed: dict[int, _Fit] = {}

    def place(self, c: Int64, scale: float) -> Float64:
        """Nominal ns since the epoch's first tick."""
        return np.asarray((np.asarray(c, np.int64) - self.c0) * scale, np.float64)

    def take(self, x: Float64, y: Float64, tick: int, arrival: int) -> None:
        """Keep the lowest y of every block; x ascends."""
        block = np.floor(x / _BLOCK).astype(np.int64)
        new = np.flatnonzero(np.diff(block, prepend=self.block) != 0)
        starts = new if new.size and new[0] == 0 else np.concatenate([[0], new])
        ends = np.append(starts[1:], x.size)
        low = np.minimum.reduceat(y, starts)
        # First position of each block's minimum, without a loop: mark, then take the first mark per block.
        owner = np.repeat(np.arange(starts.size), ends - starts)
        marks = np.flatnonzero(y == low[owner])
        where = marks[np.unique(owner[marks], return_index=True)[1]]
        px, py = x[where], y[where]
        if block[0] == self.block and self.count:
            if py[0] < self._y[self.count - 1]:
                self._x[self.count - 1], self._y[self.count - 1] = px[0], py[0]
            px, py = px[1:], py[1:]
        need = self.count + px.size
        if need > self._x.size:
            self._x, self._y = (np.resize(self._x, 2 * need), np.resize(self._y, 2 * need))
        self._x[self.count : need], self._y[self.count : need] = px, py
        self.count, self.block = need, int(block[-1])
        self.last_tick, self.last_arrival = tick, arrival
        self.last_x, self.last_y = float(x[-1]), float(y[-1])
        self._cached = None

    def newest(self) -> tuple[Float64, Float64]:
        """The latest of the points kept."""
        first = max(self.count - 64, 0)
        return self._x[first : self.count], self._y[first : self.count]

    def remember(self) -> None:
        """Keep what `forget_last` needs to take back the next tick."""
        n = self.count
        low = (float(self._x[n - 1]), float(self._y[n - 1])) if n else (0.0, 0.0)
        last = (self.last_tick, self.last_arrival, self.last_x, self.last_y)
        self._before = n, self.block, low, last

    def forget_last(self, after: tuple[int, int], scale: float) -> bool:
        """Take back the last tick if `after` (tick, arrival) follows the one before it better."""
        if self._before is None:
            return False
        n, block, low, last = self._before
        x = (after[0] - self.c0) * scale
        y = after[1] - self.a0 - x
        if not n or x < last[2] or abs(y - last[3]) > 0.5 * abs(self.last_y - last[3]):
            return False
        self.count, self.block, self._cached, self._before = n, block, None, None
        self._x[n - 1], self._y[n - 1] = low
        self.last_tick, self.last_arrival, self.last_x, self.last_y = last
        return True

    def renew_check(self, clock: EnvelopeClock) -> None:
        """Fit the line new ticks are checked against, over the last third of a window."""
        self.next_check = (np.floor(self.last_x / _CHECK) + 1) * _CHECK
        first = int(np.searchsorted(self._x[: self.count], self.last_x - clock.window * 1e9 / 3))
        # The last block may still be filling, and how far depends on nothing but the ticks before this one.
        x, y = self._x[first : self.count], self._y[first : self.count]
        if x.size >= _SETTLED:
            centre, level, slope, excess, *_ = _support(x, y, clock.ppm * 1e-6)
            self._check = centre, level, slope, 2e6 + 10.0 * excess
        if self.count > clock.memory:
            self._thin(clock)

    def outside(self, clock: EnvelopeClock, x: Float64, y: Float64, drop: Float64) -> Mask:
        """Ticks that can't be of this epoch: far too late, or suddenly below the envelope."""
        late = clock.late_max * 1e9
        if self._check is None:
            return np.asarray((np.abs(drop) > late) | (y - self._y[: self.count].min(initial=np.inf) > late))
        centre, level, slope, tolerance = self._check
        above = y - (level + slope * (x - centre))
        slack = tolerance + clock.ppm * 1e-6 * np.maximum(x - self.last_x, 0.0)
        # A queue that drains lowers y frame by frame; only a clock that stepped lowers it at once.
        return np.asarray((above > late) | ((above < -slack) & (drop > 0.5 * slack)))

    def lines(self, clock: EnvelopeClock) -> _Lines:
        """Lines over windows that overlap by half; windows that are complete are fitted once."""
        if self._cached is not None:
            return self._cached
        x, y = self._x[: self.count], self._y[: self.count]
        rho, window = clock.ppm * 1e-6, clock.window * 1e9
        end = float(x[-1])
        fits = []
        whole = int(max(end - window, 0.0) // (window / 2))
        for number in range(whole + 1 if end > window else 0):
            if number not in self._closed:
                i, j = np.searchsorted(x, [number * window / 2, number * window / 2 + window])
                if j - i < _SETTLED:
                    continue
                self._closed[number] = _support(x[i:j], y[i:j], rho)
            fits.append(self._closed[number])
        i = int(np.searchsorted(x, end - window)) if end > window else 0
        if end <= window or not fits or x.size - i >= _SETTLED:
            fits.append(_support(x[i:], y[i:], rho))
        fits.sort(key=lambda f: f[0])
        centre, level, slope, excess, span, quiet = (np.array(column) for column in zip(*fits, strict=True))
        self._cached = _Lines(
            centre, level, slope, excess, span, float(x[0]), end, self.count, bool((quiet >= _SETTLED).any())
        )
        return self._cached

    def _thin(self, clock: EnvelopeClock) -> None:
        """Halve the resolution of the older half: of each pair the point nearer to the line stays."""
        half = (self.count // 4) * 2
        x, y = self._x[:half], self._y[:half]
        line = self.lines(clock).at(x, 0.0, 0.0)[0]
        left = (y - line).reshape(-1, 2).argmin(1) + np.arange(0, half, 2)
        kept = left.size
        rest = self.count - half
        self._x[:kept], self._y[:kept] = x[left].copy(), y[left].copy()
        self._x[kept : kept + rest] = self._x[half : self.count].copy()
        self._y[kept : kept + rest] = self._y[half : self.count].copy()
        self.count = kept + rest


_Fit = tuple[float, float, float, float, float, int]


def _support(x: Float64, y: Float64, rho: float) -> _Fit:
    """`_below` the blocks that had a prompt frame, without one or two corrupted ticks far below."""
    line = _below(x, y, rho)
    if x.size < _SETTLED:
        return line
    centre, level, slope, *_, quiet = line
    rest = y - level - slope * (x - centre)
    near = np.partition(rest, 8)[:9]
    near.sort()
    for lone in (1, 2):
        # Corrupted: one or two points, and then a sharp edge that all others share.
        if near[lone] > 2e6 and near[lone] > 20.0 * (near[8] - near[lone]):
            keep = rest > 0.5 * near[lone]
            return _below(x[keep], y[keep], rho)
    if _SETTLED <= quiet < x.size:
        # Late blocks say nothing; with them the middle would lie where no data hold the line.
        keep = rest <= _QUIET
        return _below(x[keep], y[keep], rho)
    return line


def _below(x: Float64, y: Float64, rho: float) -> _Fit:
    """The line below all points that is highest at their mean x, |slope| <= rho.

    Returns centre, level there, slope, uncertainty of the level, span of x. The height at the centre
    is concave in the slope, so a shrinking grid finds its maximum: 6 rounds reach 1e-11.
    """
    centre = float(x.mean())
    z = x - centre
    base = float(y.min())
    w = y - base
    low, high, slope = -rho, rho, 0.0
    for _ in range(6):
        grid = np.linspace(low, high, 17)
        # Row by row: a 17 x m temporary per round would leave the cache.
        heights = np.array([(w - s * z).min() for s in grid])
        best = int(np.argmax(heights))
        slope, step = float(grid[best]), float(grid[1] - grid[0])
        low, high = max(slope - step, -rho), min(slope + step, rho)
    rest = w - slope * z
    level = float(rest.min())
    order = min(_ORDER, rest.size - 1)
    excess = float(np.partition(rest, order)[order] - level)
    quiet = int(np.count_nonzero(rest - level <= _QUIET))
    return centre, base + level, slope, excess, float(x[-1] - x[0]), quiet
