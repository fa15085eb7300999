"""The newest frame pulses of a detector that films, on the clock that stamped them and on lab time."""

from __future__ import annotations

import numpy as np

from hal.frames.frame import Float64, Int64, Mask

KEPT = 12.0
"""Seconds of pulses that are kept: a frame that comes later than that is left to the run's end."""
MOST = 400_000
"""Pulses kept at most."""


class LivePulses:
    """Pulses of one input in order, arrays of shape (m,).

    t       s on the stamping clock since its first pulse here: free of what the mapping to lab time may be off
    time    int64 ns of lab time, known to +-bound (int64 ns); sigma (ns) is its standard uncertainty
    lost    edges were lost just before this one
    """

    def __init__(self, frequency: float) -> None:
        self.frequency = frequency
        self._zero: int | None = None
        self._last = 0
        self.clear()

    def clear(self) -> None:
        """The stamping clock began anew, or nothing before now counts."""
        self._zero = None
        self.t: Float64 = np.zeros(0)
        self.time: Int64 = np.zeros(0, np.int64)
        self.bound: Int64 = np.zeros(0, np.int64)
        self.sigma: Float64 = np.zeros(0)
        self.lost: Mask = np.zeros(0, np.bool_)

    def add(self, ticks: Int64, time: Int64, bound: Int64, sigma: Float64, lost: bool = False) -> None:
        """Take in pulses, later than all before; `lost`: edges before the first of them never came."""
        if not ticks.size:
            return
        if self._zero is None or int(ticks[0]) < self._last:
            self.clear()
            self._zero = int(ticks[0])
        self._last = int(ticks[-1])
        gap = np.zeros(ticks.size, np.bool_)
        gap[0] = lost
        self.t = np.concatenate([self.t, (ticks - self._zero) / self.frequency])
        self.time = np.concatenate([self.time, time])
        self.bound = np.concatenate([self.bound, bound])
        self.sigma = np.concatenate([self.sigma, sigma])
        self.lost = np.concatenate([self.lost, gap])

    def forget(self, now: int) -> float:
        """Drop what is too old at lab time `now`, ns; returns the moment (t) up to which pulses are gone."""
        old = int(np.searchsorted(self.time, now - round(KEPT * 1e9)))
        old = max(old, self.t.size - MOST)
        if old <= self.t.size // 8:  # seldom, and then many
            return -np.inf
        gone = float(self.t[old - 1])
        for name in ("t", "time", "bound", "sigma", "lost"):
            setattr(self, name, getattr(self, name)[old:])
        return gone

    @property
    def newest(self) -> float:
        """When the newest one was, s (t); -inf if there is none."""
        return float(self.t[-1]) if self.t.size else -np.inf

    def on_clock(self, time: Int64) -> Float64:
        """Lab times (ns) on the stamping clock (t), as the newest pulse sees it."""
        return np.asarray(self.t[-1] + (time - self.time[-1]) * 1e-9)
