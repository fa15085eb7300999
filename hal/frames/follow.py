"""A detector's stamps followed against the pulses of its exposures, block by block, as both come in."""

from __future__ import annotations

from collections import deque

import numpy as np

from hal.frames.frame import Float64, Mask

_POINTS = 24
_OVER = 3.0  # s over which the rate is taken; over more, a warming crystal bends the line
_WANDER = 7e-7  # how far a rate found over that may be off later
SLACK = 5e-5
"""s, by which the smallest latency may be off."""
_PROMPT = 0.02  # s above the smallest latency that still count as prompt
_LATE = 1e-3  # s by which even the promptest may be late
_SLOW = 0.25  # s, and if that is not known
_OWN = 1e-4  # limit of the stamping clock's own rate error


class Follower:
    """Pulse time = stamp + offset, each in s of its own clock, with what is known of the offset's course.

    interval    s, usual time between exposures: what is off by a good part of it could be another's
    steady      exposures keep to it
    resolution  s, one step of either clock
    ppm         limit of the rate between them
    """

    def __init__(self, interval: float, steady: bool, resolution: float, ppm: float) -> None:
        self.interval, self.steady, self.resolution = interval, steady, resolution
        self._limit = 1e-6 * ppm + _OWN
        self._points: deque[tuple[float, float]] = deque(maxlen=_POINTS)
        self._at = self._value = self._rate = 0.0
        self.scatter = 0.0
        """s, of pulses about the line (robust standard deviation)."""
        self.by_start = False
        """It rests on a train's first pulse, and so may be off by whole intervals."""
        self.room = 0
        """And by at most so many to earlier: before that the detector had not been told to film."""
        self.last = -np.inf
        """The newest stamp learned from, s."""

    def learn(self, d: Float64, t: Float64) -> None:
        """Stamps d and the pulses t that are theirs, s, ascending."""
        off = t - d
        self.last = max(self.last, float(d.max()))
        for part in np.array_split(np.arange(d.size), 1 if self._points else min(4, -(-d.size // 8))):
            centre = float(d[part].mean())
            self._points.append((centre, float(np.median(off[part] - self._rate * (d[part] - centre)))))
        while len(self._points) > 2 and self._points[0][0] < self._points[-1][0] - _OVER:
            self._points.popleft()
        x, y = np.array(self._points).T
        self._at, self._value = float(x[-1]), float(y[-1])
        if len(x) > 1:
            dx, dy = x - x.mean(), y - y.mean()
            own = float((dx * dx).sum())
            self._rate = float(np.clip((dx * dy).sum() / own, -self._limit, self._limit)) if own else 0.0
            self._value = float(y.mean() + self._rate * (x[-1] - x.mean()))
        beside = np.abs(t - self(d))
        seen = 1.4826 * float(np.median(beside)) if d.size > 3 else float(beside.max()) / 2
        self.scatter = max(seen, 0.8 * self.scatter, 1e-8)

    def __call__(self, d: Float64) -> Float64:
        """When the pulses of frames with these stamps should be."""
        return np.asarray(d + self._value + self._rate * (d - self._at))

    @property
    def _rate_doubt(self) -> float:
        base = self._points[-1][0] - self._points[0][0]
        if base <= 0:
            return self._limit
        return min(self._limit, _WANDER + 4 * max(self.scatter, 0.5 * self.resolution) / base)

    def doubt(self, d: Float64) -> Float64:
        """By how much that may be off, s."""
        return np.asarray(2 * self.scatter + 0.5 * self.resolution + self._rate_doubt * np.abs(d - self._at))

    def reach(self, d: Float64) -> Float64:
        """Within which the own pulse is looked for, s: never so far that it could be the next one's."""
        wide = max(8 * self.scatter, 2 * self.resolution + 2e-7) + self._rate_doubt * np.abs(d - self._at)
        return np.asarray(np.minimum(wide, 0.25 * self.interval))

    def trusts(self, d: Float64) -> Mask:
        """Which of these stamps it can tell from their neighbours'."""
        return np.asarray(self.doubt(d) < 0.2 * self.interval)


class Promptness:
    """Latencies of the promptest frames, as the pulses that they were given have it: the check on those.

    known  the smallest latency is known and was subtracted; else it is only known not to be negative
    slack  s, by which that may be off
    """

    def __init__(self, known: bool, slack: float = SLACK) -> None:
        self._known, self._slack = known, slack
        self._lowest: Float64 = np.zeros(0)

    def learn(self, latency: Float64) -> None:
        """More latencies, s."""
        self._lowest = np.sort(np.concatenate([self._lowest, latency]))[:5]

    def contradicts(self, doubt: float) -> str:
        """Why the pulses can't be the frames', if lab time may be off by `doubt` (s); empty if they can."""
        if not self._lowest.size:
            return ""
        if self._lowest[0] < -self._slack - doubt:
            return "frames would have come before they were exposed"
        if self._lowest[0] > (max(self._late, _LATE) + self._slack + doubt if self._known else _SLOW):
            return "its frames are too late for the first pulses to be theirs"
        return ""

    @property
    def _late(self) -> float:
        """By how much even the promptest may have been late, s: as much as the next ones lie apart."""
        return min(5 * float(np.ptp(self._lowest)), _PROMPT) if self._lowest.size == 5 else _PROMPT

    def beside(self, interval: float, doubt: float, missable: int) -> int:
        """How many intervals (s) later all of them may have been exposed than it seems, or earlier, whichever is more.

        Later, if pulses came before the first exposure: as far as the promptest could still have arrived. Earlier, if
        up to `missable` first pulses were missed: where the smallest latency is known, no further than the promptest
        would then still have been prompt, and at least so far as it seems to have come sooner than it can.
        """
        if not self._lowest.size:
            return missable
        spare, doubt = float(self._lowest[0]), self._slack + doubt
        later = int(max(doubt + spare, 0.0) / interval)
        if self._known:
            missable = min(missable, int(max(doubt + self._late - spare, 0.0) / interval))
            missable = max(missable, int((doubt - spare) / interval) if spare < 0 else 0)
        return max(later, missable)
