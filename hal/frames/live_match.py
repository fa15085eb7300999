"""Frames onto pulses while both still come in: a series is hung up once, then its stamps are followed.

A series that can't be hung up for sure is left to `match`, which sees the whole run. Ticks are compared with ticks;
lab time only says what can't be. Derivation: docs/explanation/frames.md, "While it is filmed".
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from hal.frames.comb import first_within
from hal.frames.follow import SLACK, Follower, Promptness
from hal.frames.frame import Codes, Float64, FrameTimes, Int64, Mask, Reason
from hal.frames.hang_up import FEW, Opening, beat, hang_up
from hal.frames.live_pulses import LivePulses
from hal.frames.series import outliers

PATIENCE = 0.8
"""Seconds after its arrival that a frame waits for its pulse."""
LAG = 0.25
"""Seconds within which a pulse is here if it comes at all."""
SEED = 64
"""Frames that hang up a series; at least 8 do, or 3 once the first has waited long enough."""
AGAIN = 0.35
"""Seconds after which a series that could not be hung up is tried again, with later frames."""
MOST = 4096
"""Frames after which `settle` returns, so that whoever calls it is not held up."""
BLOCK = 2048
HOLE = 16
"""Exposures in a row whose pulses may have been missed and are told by those beside."""
HELD = 200_000
"""Frames that may wait; beyond it the oldest are left to the run's end."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Frames as a camera hands them on, in order of reception; arrays of shape (n,).

    series, index and reason as numbered; ticks of the exposures' start by the detector's clock; arrival (lab time)
    and exposure in ns.
    """

    series: Int64
    index: Int64
    reason: Codes
    ticks: Int64
    arrival: Int64
    exposure: Int64

    def __len__(self) -> int:
        return int(self.index.size)

    def __getitem__(self, where: slice | Int64) -> Seen:
        return Seen(*(getattr(self, f.name)[where] for f in fields(self)))

    @classmethod
    def joined(cls, parts: list[Seen]) -> Seen:
        """All of them in order; at least one."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


class LiveMatcher:
    """Feed frames and pulses in any rhythm; `settle` gives the exposures of those that are decided, in order.

    frequency, ppm     of the detector's clock
    pulses             where the pulses come in, on lab time as known by then
    latency, latency_sigma  s from the beginning of an exposure to its pulse
    min_latency, min_latency_sigma  s from the end of an exposure to the promptest arrival; 0 if not known
    clock              id of the clock that stamps the pulses

    A decided frame is not decided again. Valid ones have their exposure by a pulse, their own or those beside it. The
    others (NOT_MATCHED, or what their numbering said) have none yet; their placeholders must not be used.
    """

    def __init__(
        self, *, frequency: float, ppm: float, pulses: LivePulses, latency: float = 0.0, latency_sigma: float = 0.0,
        min_latency: float = 0.0, min_latency_sigma: float = 0.0, clock: str = "",
    ) -> None:  # fmt: skip
        self.pulses = pulses
        self.why = ""
        """Why frames are left to the run's end; empty if none is."""
        self._frequency, self._ppm, self._clock = frequency, ppm, clock
        self._latency, self._latency_sigma, self._least = latency, latency_sigma, min_latency
        self._slack = SLACK + (3 * min_latency_sigma if min_latency else 0.0)
        self._resolution = max(1.0 / frequency, 1.0 / pulses.frequency)
        self._waiting: list[Seen] = []
        self._zero: int | None = None  # the tick that stamps are counted from
        self._series = -1
        self._follower: Follower | None = None
        self._before: Follower | None = None  # of the series before
        self._whole = False  # the present series' pulses are here from the first on
        self._used = -np.inf  # t of the newest pulse that is a frame's
        self._begun = 0  # lab time before which no pulse is a frame's
        self._again = 0  # lab time, ns
        self._tried = False  # to hang a series up, which takes some ms, since `settle` was called
        self._recent: list[bool] = []
        self._last = (-1, -np.inf)  # index and t of the newest pulse found in this series
        self._prompt = Promptness(min_latency > 0, self._slack)
        self._floor: float | None = None  # s, smallest latency of matched frames
        self._hole = 0  # most pulses in a row that were missed so far

    @property
    def waiting(self) -> int:
        """Frames that are not decided yet."""
        return sum(len(part) for part in self._waiting)

    def begin(self, now: int) -> None:
        """The detector is about to be told to film, lab time `now`: no pulse so far is a coming frame's."""
        self._begun = now
        self._used = self.pulses.newest

    def restart(self) -> None:
        """The clock that stamps pulses began anew."""
        self.pulses.clear()
        self._follower = self._before = None
        self._whole, self._used = False, -np.inf

    def add(self, frames: Seen) -> None:
        """Take in frames, in order of reception."""
        if len(frames):
            self._waiting.append(frames)

    def settle(self, now: int, *, over: bool = False) -> FrameTimes:
        """The frames that can be decided at lab time `now`, ns; `over`: no further pulse will come.

        After `MOST` frames it returns in any case: then ask again at once.
        """
        out: list[FrameTimes] = []
        self._tried = False
        while self._waiting and sum(map(len, out)) < MOST:
            frames = Seen.joined(self._waiting)
            ends = np.flatnonzero(np.diff(frames.series)) + 1
            part = frames[: int(ends[0])] if ends.size else frames
            told = self._decide(part, now, over)
            if not len(told) and len(frames) > HELD:
                told = self._left(part[: len(frames) - HELD])
            out.append(told)
            self._waiting = [frames[len(told) :]] if len(told) < len(frames) else []
            if not len(told):
                break
        gone = self.pulses.forget(now)
        if gone > self._used and self._follower is None:
            self._whole = False
        return FrameTimes.concatenate(out)

    # ------------------------------------------------------------------ private

    def _stamps(self, frames: Seen) -> Float64:
        if self._zero is None:
            self._zero = int(frames.ticks[0])
        return np.asarray((frames.ticks - self._zero) / self._frequency)

    def _limit(self, frames: Seen) -> Int64:
        """The latest lab time at which the frames' pulses may have been."""
        own = round((self._least - self._latency) * 1e9)
        return np.asarray(frames.arrival - frames.exposure - own)

    def _decide(self, frames: Seen, now: int, over: bool) -> FrameTimes:
        """Frames of one series, perhaps only some, perhaps none."""
        if int(frames.series[0]) != self._series:
            self._series = int(frames.series[0])
            self._before, self._follower = self._follower or self._before, None
            self._whole, self._recent, self._last = True, [], (-1, -np.inf)
            self._again = 0
        late = np.asarray(over | (frames.arrival + round(PATIENCE * 1e9) <= now))
        if self._follower is None and not self._hang_up(frames, now, bool(late[0])):
            return self._left(frames[: int(late.size if late.all() else np.argmin(late))])
        out: list[FrameTimes] = []
        at = 0
        while at < min(len(frames), MOST) and self._follower is not None:
            told = self._follow(frames[at : at + BLOCK], late[at : at + BLOCK], self._follower)
            out.append(told)
            at += len(told)
            if not len(told):
                break
        return FrameTimes.concatenate(out)

    def _hang_up(self, frames: Seen, now: int, pressed: bool) -> bool:
        if now < self._again or self._tried:
            return False
        rows = np.flatnonzero((frames.index[: 4 * SEED] >= 0) & (frames.reason[: 4 * SEED] == Reason.OK))[:SEED]
        if rows.size < (3 if pressed else FEW) or not self.pulses.t.size:
            self.why = self.why if self.pulses.t.size else "no pulse has come; is the cable plugged in?"
            return False
        some = frames[rows]
        if not pressed and now < int(some.arrival[0]) + round(LAG * 1e9):
            return False
        limit, d = self._limit(some), self._stamps(some)
        ascending = np.concatenate([[True], (np.diff(d) > 0) & (np.diff(some.index) > 0)])
        if ascending.sum() < 0.9 * rows.size or (rows.size < FEW and d[-1] - d[0] < 0.05 * rows.size):
            self.why = "its stamps are too coarse, or don't ascend"
            return False
        some, d, limit = some[np.flatnonzero(ascending)], d[ascending], limit[ascending]
        usual, steady = beat(some.index, d)
        if steady:  # corrupted stamps out
            good = np.flatnonzero(~outliers(d - usual * some.index, 0.3 * usual))
            some, d, limit = some[good], d[good], limit[good]
        low = int(np.searchsorted(self.pulses.t, self._used, side="right"))
        before = self.pulses.time[low:] + self.pulses.bound[low:] < self._begun
        whole = self._whole and not before.any()
        latest = int(limit.max()) + int(self.pulses.bound[-1]) + round(1e9 * self._slack)
        high = int(np.searchsorted(self.pulses.time, latest))
        begun = self._begun + round((self._latency - 3 * self._latency_sigma) * 1e9)
        opening = Opening(some.index, d, limit, low, high, whole, self._floor, self._least > 0, self._slack, begun)
        self._tried = True
        found, self.why = hang_up(opening, self.pulses, self._before, self._resolution, self._ppm)
        if found is not None and found is not self._before:
            self._prompt = Promptness(self._least > 0, self._slack)
        self._follower = found
        self._again = 0 if found is not None else now + round(AGAIN * 1e9)
        return found is not None

    def _follow(self, frames: Seen, late: Mask, line: Follower) -> FrameTimes:
        """A block; fewer of it are decided, perhaps none, if pulses of others may still come."""
        d = self._stamps(frames)
        rows = np.flatnonzero((frames.index >= 0) & (frames.reason == Reason.OK))
        far = 0.3 if line.steady else 12.0
        rows = rows[~outliers(d[rows] - line.interval * frames.index[rows], far * line.interval)]
        sure = line.trusts(d[rows])
        cut = sure.any() and not sure[-1]
        if cut:  # what it can't tell yet it can when it has learned from the others
            rows = rows[: int(np.flatnonzero(sure)[-1]) + 1]
            sure = sure[: rows.size]
        at, reach = line(d[rows]), line.reach(d[rows])
        edge = np.where(sure, first_within(self.pulses.t, at, reach), -1)
        hit = (edge >= 0) & ~np.isin(edge, edge[1:][np.diff(edge) == 0])
        # Pulses may be on their way; those behind a missed one tell when it was.
        open_ = ~late[rows] & sure & ((at + reach >= self.pulses.newest) | (line.steady & ~hit & ~_followed(hit)))
        end = len(frames) if not cut else int(rows[-1]) + 1
        end = int(rows[np.argmax(open_)]) if open_.any() else end
        within = rows < end
        rows, edge, hit, sure, at, reach = (
            rows[within], edge[within], hit[within], sure[within], at[within], reach[within],
        )  # fmt: skip
        doubt = 1e-9 * float(self.pulses.bound[edge].max()) if rows.size else 0.0
        latency = np.zeros(0)
        if rows.size:
            latency = np.asarray((self._limit(frames[rows]) - self.pulses.time[edge]) * 1e-9)
        turned = (frames.index[rows] - self._last[0]) * (self.pulses.t[edge] - self._last[1]) < 0
        odd = hit & ((latency < -self._slack - doubt) | turned)
        if odd.sum() <= max(1, 0.02 * rows.size):  # corrupted stamps that point at another's pulse
            hit &= ~odd
        has, own = rows[hit], edge[hit]
        self._prompt.learn(latency[hit])
        if has.size and (why := self._prompt.contradicts(doubt)):
            return self._lose(frames[:end], why)
        # Once pulses come no more nothing can be said, and nothing is wrong.
        self._recent = [*self._recent, *hit[~sure | (at < self.pulses.newest)].tolist()][-SEED:]
        if len(self._recent) >= 16 and np.mean(self._recent) < 0.5:
            return self._lose(frames[:end], "its stamps and the pulses lost step")
        start, extra = np.full(end, np.nan), np.zeros(end)
        start[has] = self.pulses.t[own]
        if has.size:
            line.learn(d[has], start[has])
            index, time = frames.index[has], start[has]
            if self._last[0] >= 0:
                index, time = np.append(self._last[0], index), np.append(self._last[1], time)
            self._last = int(index[-1]), float(time[-1])
            self._used = self._last[1]
            if line.steady:
                gaps = np.rint(np.diff(self.pulses.t[own[0] : own[-1] + 1]) / line.interval).astype(np.int64) - 1
                self._hole = max(self._hole, int(gaps[gaps <= HOLE].max(initial=0)))
                miss = ~hit & sure
                _between(line, frames.index, rows[miss], index, time, at[miss], reach[miss], start, extra)
            least = float(latency[hit].min())
            self._floor = least if self._floor is None else min(self._floor, least)
        missable = min(line.room, 1 + self._hole)
        beside = self._prompt.beside(line.interval, doubt, missable) if line.by_start else 0
        return self._told(frames[:end], start, extra + beside * line.interval, bool(beside))

    def _lose(self, frames: Seen, why: str) -> FrameTimes:
        """Its frames are left to the run's end, until a pattern or the next series is found."""
        self._follower = self._before = None
        self._whole, self.why = False, why
        return self._left(frames)

    def _left(self, frames: Seen) -> FrameTimes:
        n = len(frames)
        return self._told(frames, np.full(n, np.nan), np.zeros(n))

    def _told(self, frames: Seen, start: Float64, extra: Float64, ambiguous: bool = False) -> FrameTimes:
        """start: of the exposures' pulses, s on their clock, NaN: not known; extra: s, added to the bound."""
        n = len(frames)
        known = np.isfinite(start)
        bound, sigma = np.zeros(n), np.zeros(n)
        within = np.hypot(self._latency_sigma * 1e9, 1e9 / self.pulses.frequency / np.sqrt(12)) + np.zeros(n)
        begin = np.zeros(n, np.int64)
        if known.any():
            p = self.pulses
            j = np.clip(np.searchsorted(p.t, start[known], side="right") - 1, 0, None)
            beside = start[known] - p.t[j]
            begin[known] = p.time[j] + np.rint((beside - self._latency) * 1e9).astype(np.int64)
            extra = extra + 0.0
            extra[known] += np.abs(beside) * 1e-4
            own = 1e9 * (1.0 / p.frequency + 3 * self._latency_sigma)
            bound[known] = np.ceil(p.bound[j] + own + extra[known] * 1e9)
            within[known] = np.hypot(within[known], extra[known] * (1e9 / np.sqrt(3.0)))
            sigma[known] = np.hypot(p.sigma[j], within[known])
        good = Reason.AMBIGUOUS if ambiguous else Reason.OK
        reason = np.where(frames.reason == Reason.OK, np.where(known, good, Reason.NOT_MATCHED), frames.reason)
        return FrameTimes(
            begin, np.where(known, begin + frames.exposure, 0), bound.astype(np.int64), sigma.astype(np.float32),
            known, reason.astype(np.uint8), self._clock, within.astype(np.float32),
        )  # fmt: skip


def _followed(hit: Mask) -> Mask:
    """Which have a hit behind them."""
    return np.asarray(np.maximum.accumulate(hit[::-1])[::-1]) if hit.size else hit


def _between(
    line: Follower, number: Int64, missed: Int64, index: Int64, time: Float64, at: Float64, reach: Float64,
    start: Float64, extra: Float64,
) -> None:  # fmt: skip
    """Frames of a regular train whose pulse was missed, from pulses (index, time) on both sides of them."""
    i = np.searchsorted(index, number[missed])
    inner = (i > 0) & (i < index.size)
    missed, i, at, reach = missed[inner], i[inner], at[inner], reach[inner]
    steps, long = index[i] - index[i - 1], time[i] - time[i - 1]
    # Between them the train kept its beat, and the stamp says much the same.
    when = time[i - 1] + (number[missed] - index[i - 1]) / np.maximum(steps, 1) * long
    off = np.abs(when - at)
    good = (steps > 1) & (steps <= HOLE + 1) & (off < 0.25 * line.interval)
    good &= np.abs(long - steps * line.interval) < 0.1 * line.interval
    start[missed[good]] = when[good]
    extra[missed[good]] = np.maximum(off, reach)[good]
