"""Stretches of exchanges that a straight line describes, and how well each tells the clock's rate.

Delays keep their kind for a while and a crystal its rate, nobody knows for how long: what is too long shows in that
parts of a window stay away from its line. Derivations: `docs/explanation/clocks.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .lines import Band, Margin

Float64 = NDArray[np.float64]

BLOCK = 4
"""Exchanges in the smallest window."""
HANDFUL = 8
"""Of fewer a line touches so many that the rest tells nothing of the delays."""
SAG = 0.05
"""Share of the smallest round trip that a straight line may leave out."""
STRAIGHT = 0.1
"""The same where the smallest round trip is no measure of the smallest delays."""
DOUBT = 2.5
"""The smallest of n round trips scatters; so many times that may be missing from the gap."""
FEW = 4
"""The fifth-lowest wait tells how densely waits lie near zero."""
FINEST = 20.0
"""ns; no link's waits are known finer."""
COARSE = 0.5
"""Of a tick; nor finer than that: asked in step with its counter, a clock's waits are all alike for minutes."""
EIGHTH = 8
"""A part of a window stays away from its line if its lowest wait exceeds the whole's lowest by more than ..."""
FAR_OFF = 1.0
"""... so many times what lies between the part's lowest and its ninth-lowest."""
SHORT = 32
"""Exchanges in the shortest of many parts, ..."""
FAR_OUT = 2.0
"""... of which hardly one is by chance so many times further off (3^-EIGHTH)."""
SPACINGS = 4.0
"""A part of a window may be further off than its lowest wait by so many times the spacing of its lowest waits."""
LACK = 0.5
"""Of `grain`: so much less room may a straight window leave than any part of it."""
SMALLEST = 4
"""Blocks in the smallest part of a window that is asked whether it leaves more room than the whole, ..."""
LEVELS = 5
"""... so often halved."""
NATS = 2.0
"""Slopes that are less likely than the best by no more than exp(-2), some two sigma, are nearly as good."""
UNEVEN = 8.0
"""A window passes as even though its finer side may be off by so many times that side's density of waits."""
ROOM = 8.0
"""Slopes are possible that narrow the gap by no more than so many times the spacing of waits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """A clock's offset theta (ns, lab time less nominal device time) over nominal device time x (ns), as exchanges
    limit it: lower[i] <= theta(xl[i]), theta(xu[k]) <= upper[k]. Either x ascends."""

    xl: Float64
    lower: Float64
    xu: Float64
    upper: Float64
    trip: Float64
    """Round trips without the device's own time, ns, one per lower limit."""
    tick: float
    """ns."""

    def part(self, which: slice | NDArray[np.bool_]) -> Limits:
        """Of some exchanges both limits, of the others none."""
        xl, lower, xu, upper, trip = (c[which] for c in (self.xl, self.lower, self.xu, self.upper, self.trip))
        return Limits(xl, lower, xu, upper, trip, self.tick)


@dataclass(frozen=True, slots=True)
class Window:
    """A straight line through the exchanges i to j."""

    i: int
    j: int
    begin: float
    end: float
    margin: Margin
    """The likeliest line."""
    possible: Margin
    """The line with the widest gap, whatever the delays did."""
    low: float
    """1/ns, density of the waits near zero, outward ..."""
    up: float
    """... and back; its inverse is how finely the margin is known."""
    noise: float
    """ns: by so much the smallest of n round trips exceeds the sum of the smallest delays. It is sqrt(2 S_f S_r / n) if
    either way waits exponentially, S_f and S_r long. Where one waits so long that the other hardly matters, the
    second-smallest trip is the second-smallest wait's: one spacing more."""
    trip: float
    grain: float
    """ns, by how much the gap of so many exchanges exceeds the smallest delays, of the order of."""
    sag: float
    """ns, by how much theta may leave the line without that it shows."""
    room: float | None = None
    """ns, the sum of the smallest delays, nearly: the smallest round trip, or the gap where that is known to be less;
    None of a window too short to tell."""

    @property
    def gap(self) -> float:
        return self.possible.gap

    @property
    def level(self) -> float:
        """ns, how well both sides together tell the line's height but for the smallest delays."""
        return 1.0 / (self.low + self.up)

    @property
    def finer(self) -> float:
        return max(self.low, self.up)

    @property
    def coarser(self) -> float:
        return min(self.low, self.up)

    @property
    def doubt(self) -> float:
        """Of the slope. The likeliest line rests on delays that keep their kind, which `even` sees no finer than
        UNEVEN times the finer side's waits; whatever the delays do, the slope is among the possible ones."""
        line, slope = self.possible, self.margin.slope
        unseen = UNEVEN * FEW / self.finer / self.length
        return min(max(self.margin.doubt, unseen), max(line.high - slope, slope - line.low, self.margin.doubt))

    @property
    def length(self) -> float:
        return max(self.end - self.begin, 1.0)

    @property
    def middle(self) -> float:
        return (self.begin + self.end) / 2


class Windows:
    """Straight lines over parts of the exchanges, each fitted once."""

    def __init__(self, limits: Limits, steepest: float, known: Windows | None = None) -> None:
        """`known`: windows of the same epoch as it was before more exchanges came; what still holds is taken over."""
        self.limits, self.steepest = limits, steepest
        self.count = limits.xl.size
        self.blocks = -(-self.count // BLOCK)
        edges = np.arange(0, self.count, BLOCK)
        # Upper limits that came one way belong to the block of exchanges they fell between.
        # If many were asked within a tick, or answered long after one another's questions, it gets one at least.
        number, cuts = np.arange(edges.size), np.searchsorted(limits.xu, limits.xl[edges] - 1.0)
        cuts[0] = 0
        cuts = np.minimum(np.maximum.accumulate(cuts - number), limits.xu.size - edges.size) + number
        self._of_upper = np.append(cuts, limits.xu.size)
        self._evens: dict[tuple[int, int], float | None] = {}
        self._fitted: dict[tuple[int, int], Window] = {}
        self._straight: dict[tuple[int, int], Window | None] = {}
        if known is not None and known.steepest == steepest:
            self._take_over(known)

    def _take_over(self, known: Windows) -> None:
        """What was found of exchanges that are still the same, if only some were forgotten before and came after."""
        mine, old = self.limits, known.limits
        gone = int(np.searchsorted(old.xl, mine.xl[0]))
        blocks, rest = divmod(gone, BLOCK)
        if rest or gone >= known.count:
            return
        first = int(known._of_upper[blocks])
        n, m = known.count - gone, old.xu.size - first
        if mine.xl.size < n or mine.xu.size < m or (mine.xu.size > m and mine.xu[m] < mine.xl[n - 1]):
            return
        pairs = (
            (old.xl[gone:], mine.xl[:n]), (old.lower[gone:], mine.lower[:n]),
            (old.xu[first:], mine.xu[:m]), (old.upper[first:], mine.upper[:m]),
        )  # fmt: skip
        whole = known.count // BLOCK
        same = np.array_equal(known._of_upper[blocks : whole + 1] - first, self._of_upper[: whole + 1 - blocks])
        if not same or not all(np.array_equal(before, now) for before, now in pairs):
            return

        def moved(window: Window) -> Window:
            return replace(window, i=window.i - gone, j=window.j - gone) if gone else window

        def kept(keys: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
            return [(i, j) for i, j in keys if i >= blocks and j <= whole]

        for i, j in kept(known._fitted):
            self._fitted[i - blocks, j - blocks] = moved(known._fitted[i, j])
        for i, j in kept(known._straight):
            window = known._straight[i, j]
            self._straight[i - blocks, j - blocks] = None if window is None else moved(window)
        self._evens = {(i - blocks, j - blocks): known._evens[i, j] for i, j in kept(known._evens)}

    def leaves(self) -> list[Window]:
        """Windows that a straight line describes, one after the other."""
        size = 1
        while size < self.blocks:
            size *= 2
        return self._leaves(0, size)

    def _leaves(self, i: int, size: int) -> list[Window]:
        """Of `size` blocks from i on, as many as there are. All cuts are at multiples of a power of two, so that most
        windows are the same ones when a few exchanges have come."""
        j = min(i + size, self.blocks)
        if i >= j:
            return []
        if size < 2 or self.even(i, j):
            # A quarter on either side steadies the slope.
            margin = max(1, size // 4)
            wide = self.even(i - margin, j + margin)
            return [self._over(self.window(i - margin, j + margin) if wide else self.window(i, j), i, j)]
        parts = self._leaves(i, size // 2) + self._leaves(i + size // 2, size // 2)
        whole = self.straight(i, j)
        if whole is not None and whole.doubt < _typical(parts) / 2:
            return [self._over(whole, i, j)]
        return parts

    def _over(self, window: Window, i: int, j: int) -> Window:
        """The same line, for blocks i to j only."""
        x, end = self.limits.xl, min(j * BLOCK, self.count - 1)
        return replace(window, begin=float(x[i * BLOCK]), end=float(x[end]))

    def latest(self) -> Window:
        """The longest window up to now that a straight line describes."""
        size = 2
        while size < self.blocks:
            size *= 2
        while size > 2 and not self.even(self._begin(size), self.blocks):
            size //= 2
        best = self.window(self._begin(size), self.blocks)
        while size < self.blocks:
            size *= 2
            window = self.straight(self._begin(size), self.blocks)
            if window is not None and window.doubt < best.doubt:
                best = window
        return best

    def _begin(self, size: int) -> int:
        """Where a window of `size` blocks up to now begins, or one of up to half as much more."""
        step = max(size // 2, 1)
        return max((self.blocks - size) // step * step, 0)

    def straight(self, i: int, j: int) -> Window | None:
        """Blocks i to j and the slopes that are possible, if they leave room for a straight line, as much as any part
        of them leaves."""
        if (i, j) not in self._straight:
            self._straight[i, j] = self._as_straight(i, j)
        return self._straight[i, j]

    def _as_straight(self, i: int, j: int) -> Window | None:
        w = self.window(i, j)
        lack, cell = 0.0, 1
        while 2 * cell < j - i:
            cell *= 2
        if cell < SMALLEST:
            return None
        for cell in (cell >> k for k in range(LEVELS)):
            if cell < SMALLEST:
                break
            cuts = range((i // cell + 1) * cell, j, cell)
            edges = [i, *(c for c in cuts if c - i >= cell // 2 and j - c >= cell // 2), j]
            least = min((self.window(a, b) for a, b in pairwise(edges)), key=lambda part: part.gap)
            lack = max(lack, least.gap - w.gap)
            if lack > LACK * least.grain:
                return None
        return replace(w, margin=w.possible, sag=lack + w.grain, room=min(w.trip, w.gap))

    def even(self, i: int, j: int) -> bool:
        """A line through blocks i to j leaves no more out than chance may, in any part of them."""
        i, j = max(i, 0), min(j, self.blocks)
        if (i, j) not in self._evens:
            w = self.window(i, j)
            wide = self._wide_enough(w)
            sag = self._sag(w, wide)
            self._evens[i, j] = sag
            if sag is not None:
                self._fitted[i, j] = replace(w, sag=sag, room=w.trip if wide else w.gap)
        return self._evens[i, j] is not None

    def _wide_enough(self, w: Window) -> bool:
        """A straight clock leaves a gap of the sum of the smallest delays, which the smallest round trip exceeds by
        about `noise`."""
        return w.gap >= w.trip - SAG * max(w.trip, self.limits.tick) - DOUBT * w.noise

    def _sag(self, w: Window, wide: bool) -> float | None:
        """By how much theta may leave the line unseen; None if some part of the window does not come as near to the
        line as the whole does, within the scatter of its own waits.

        Of n exponential waits the smallest is S/n on average, and the next ones follow S/n apart: that the smallest
        of a part exceeds that of the whole by more than FAR_OFF times the way to the EIGHTH is rarer than
        (1 + FAR_OFF)^-EIGHTH. The finer side tells how far theta follows the line; where the other is so much coarser
        that rare quick messages may have been its lowest, the finer one has to do. So it has if no question is quick
        both ways, as between two polls in step, and the line is not `wide`; then even the shortest parts must follow.
        """
        m, line = self.limits, w.margin
        p, q = w.i, w.j
        r, s = (int(self._of_upper[k]) for k in (p // BLOCK, -(-q // BLOCK)))
        out = -m.lower[p:q] + line.slope * (m.xl[p:q] - line.middle)
        back = m.upper[r:s] - line.slope * (m.xu[r:s] - line.middle)
        sags = self._follows(out), self._follows(back)
        even = [sag for sag in sags if sag is not None]
        if len(even) < 2 and (not even or w.coarser * UNEVEN > w.finer or (sags[0] is None) == (w.low >= w.up)):
            return None
        sag = min(w.grain, *even)
        if not wide and (
            sag > STRAIGHT * w.trip
            or not self._throughout([way for way, s in zip((out, back), sags, strict=True) if s])
        ):
            return None
        return sag

    def _follows(self, waits: Float64) -> float | None:
        """The same for one way's waits beyond a line."""
        least, most = float(waits.min()), 0.0
        for parts in (2, 4):
            if waits.size < 4 * parts:
                break
            edges = [waits.size * k // parts for k in range(parts + 1)]
            for a, b in pairwise(edges):
                part = waits[a:b]
                k = min(EIGHTH, part.size - 1)
                near = np.partition(part, (0, k))
                off, apart = float(near[0] - least), float(near[k] - near[0]) / k
                if off > FAR_OFF * apart * EIGHTH + FINEST:
                    return None
                most = max(most, off + SPACINGS * apart)
        return most or np.inf

    @staticmethod
    def _throughout(ways: list[Float64]) -> bool:
        """No short part stays away by more than waits scatter: theta does not swing about the line."""
        for waits in ways:
            parts, least = 8, float(waits.min())
            while waits.size >= SHORT * parts:
                near = np.partition(waits[: waits.size // parts * parts].reshape(parts, -1), (0, EIGHTH), axis=1)
                if (near[:, 0] - least > FAR_OUT * (near[:, EIGHTH] - near[:, 0]) + FINEST).any():
                    return False
                parts *= 2
        return True

    def window(self, i: int, j: int) -> Window:
        """Of blocks i to j."""
        i, j = max(i, 0), min(j, self.blocks)
        if (i, j) not in self._fitted:
            self._fitted[i, j] = self._fit(i, j)
        return self._fitted[i, j]

    def _fit(self, i: int, j: int) -> Window:
        m = self.limits
        p, q = i * BLOCK, min(j * BLOCK, self.count)
        r, s = int(self._of_upper[i]), int(self._of_upper[j])
        band = Band(m.xl[p:q], m.lower[p:q], m.xu[r:s], m.upper[r:s], self.steepest)
        widest = band.best()
        out = widest.floor + widest.slope * (m.xl[p:q] - widest.middle) - m.lower[p:q]
        back = m.upper[r:s] - widest.slope * (m.xu[r:s] - widest.middle) - widest.ceiling
        k, n = min(FEW, out.size - 1), min(FEW, back.size - 1)
        out.partition((k, out.size // 2))
        back.partition((n, back.size // 2))
        usual = max(float(out[out.size // 2]), 0.0) * max(float(back[back.size // 2]), 0.0)
        finest = max(FINEST, COARSE * m.tick)
        low, up = max(k, 1) / max(float(out[k]), finest), max(n, 1) / max(float(back[n]), finest)
        noise = float(np.sqrt(2 * usual / (q - p) + 1.0 / min(low, up) ** 2))
        trip = m.trip[p:q]
        second = min(1, trip.size - 1)
        least = float(np.partition(trip, second)[second])
        # Two of the points touch the line by construction: of a handful, waits tell nothing.
        likely = band.best(low, up, NATS) if q - p >= HANDFUL else None
        # Of fewer than a block's every one touches the line, and any slope is possible that leaves room.
        widest = band.best(1.0, 1.0, ROOM * (1.0 / low + 1.0 / up)) if q - p >= BLOCK else band.open()
        grain = FEW / low + FEW / up
        ends = float(m.xl[p]), float(m.xl[q - 1])
        return Window(p, q, *ends, likely or widest, widest, low, up, noise, least, grain, sag=grain)


def _typical(parts: list[Window]) -> float:
    """The doubt that half the time is not exceeded."""
    doubt, length = np.array([w.doubt for w in parts]), np.array([w.length for w in parts])
    order = np.argsort(doubt)
    return float(doubt[order][np.searchsorted(np.cumsum(length[order]), length.sum() / 2)])
