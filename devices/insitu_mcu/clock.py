"""The board's clock against lab time: every exchange kept, and a plain estimate with a hard bound.

Each exchange says: the tick of reception fell after we sent, that of sending before we received. With
the crystal's datasheet limit on the rate's error, every exchange bounds the lab time of any other
tick from both sides; the estimate is the middle of what all of them allow. (How unequal the two ways
are can't be seen: the bound includes it.)
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]

KEPT = 4096
"""Exchanges kept: an hour at one a second."""
USED = 128
"""Newest exchanges the estimate rests on."""


@dataclass(frozen=True, slots=True)
class TimeExchange:
    """One question after the board's time."""

    boot: int
    """Epoch of the ticks."""
    sent: int
    """Lab time, ns, just before the question left."""
    ticks_received: int
    """The board's clock when the question's first byte came in."""
    ticks_sent: int
    """The board's clock when its answer was queued."""
    received: int
    """Lab time, ns, when its last byte was here."""


@dataclass(frozen=True, slots=True)
class ClockEstimate:
    """Lab time of ticks: ``origin + (ticks - ticks_origin) * 1e9 / rate``, known to `bound` ns at the origin."""

    boot: int
    ticks_origin: int
    origin: int
    rate: float
    """Ticks per second of lab time."""
    bound: int
    """Half-width at the origin, ns."""
    ppm: float
    """Growth of the bound away from the origin: ns per ms."""

    def at(self, ticks: Int64) -> tuple[Int64, Int64]:
        """Lab time of ticks and its bound, ns."""
        elapsed = (np.asarray(ticks, np.int64) - self.ticks_origin) * (1e9 / self.rate)
        time = self.origin + np.rint(elapsed).astype(np.int64)
        return time, self.bound + np.ceil(np.abs(elapsed) * self.ppm * 1e-6).astype(np.int64)


class TickClock:
    """Exchanges with one board, epoch by epoch."""

    def __init__(self, *, ppm: float) -> None:
        """`ppm`: the datasheet's limit on the rate's error."""
        self.ppm = ppm
        self.nominal = 0
        """Ticks per second, as the board says."""
        self.boot = 0
        """The present epoch."""
        self.exchanges: deque[TimeExchange] = deque(maxlen=KEPT)
        """All that were made, of all epochs."""

    def new_epoch(self, boot: int, nominal: int) -> None:
        """The board has started anew: its ticks count from another moment."""
        self.boot, self.nominal = boot, nominal

    def add(self, exchange: TimeExchange) -> None:
        self.exchanges.append(exchange)

    def estimate(self) -> ClockEstimate | None:
        """The estimate by the newest exchanges of this epoch; None before the first."""
        used = [e for e in list(self.exchanges)[-USED:] if e.boot == self.boot]
        if not used:
            return None
        newest = used[-1]
        rows = np.array([(e.sent, e.ticks_received, e.ticks_sent, e.received) for e in used], np.int64)
        sent, came, left, received = (rows - (newest.sent, newest.ticks_sent, newest.ticks_sent, newest.sent)).T
        rate = self._rate(sent, came, left, received)
        period, slack = 1e9 / rate, (self.ppm + abs(rate / self.nominal - 1) * 1e6) * 1e-6
        # Lab time of the newest tick, as each exchange bounds it.
        low = np.max(sent - came * period - slack * np.abs(came) * period)
        high = np.min(received - left * period + slack * np.abs(left) * period)
        if high < low:  # the rate is worse than the datasheet says
            low, high = high, low
        return ClockEstimate(
            self.boot, newest.ticks_sent, newest.sent + round((low + high) / 2), rate,
            int(np.ceil((high - low) / 2)) + 1, slack * 1e6,
        )  # fmt: skip

    def _rate(self, sent: Int64, came: Int64, left: Int64, received: Int64) -> float:
        """Ticks per second by the quicker half of the exchanges, where they span enough; else the nominal rate."""
        trip = (received - sent) - (left - came) * (1e9 / self.nominal)
        quick = trip <= np.median(trip)
        time, ticks = (sent + received)[quick] / 2, (came + left)[quick] / 2
        span = np.ptp(time)
        if len(time) < 8 or not span or trip[quick].max() / span > self.ppm * 1e-6:
            return float(self.nominal)
        slope = float(np.polyfit(time - time.mean(), ticks - ticks.mean(), 1)[0]) * 1e9
        most = self.ppm * 1e-6
        return float(np.clip(slope, self.nominal * (1 - most), self.nominal * (1 + most)))
