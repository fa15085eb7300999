"""An emulated board's counter on our monotonic clock: when an exposure began, on the board's own ticks."""

from __future__ import annotations

AGREE = 20e-6
"""Seconds: looks this near to the furthest one were hardly late."""


class Counter:
    """Both count the machine's seconds, from another moment.

    A look at the page is late, never early, so the furthest one counts.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.agreeing = 0
        """Looks that were hardly late."""
        self._offset: float | None = None

    def look(self, seen: int, now: float) -> None:
        """The counter (32 bits) was `seen`, or more by now, at monotonic time `now`."""
        if self._offset is None:
            self._offset = seen - now * self.rate
        ahead = (seen - round(self._offset + now * self.rate) + 2**31) % 2**32 - 2**31
        if ahead > AGREE * self.rate:
            self.agreeing = 0
        if ahead >= -AGREE * self.rate:
            self.agreeing += 1
        if ahead > 0:
            self._offset += ahead

    def at(self, moment: float) -> int:
        """The counter (32 bits) at a monotonic time."""
        assert self._offset is not None
        return round(self._offset + moment * self.rate) & 0xFFFF_FFFF

    def moment(self, ticks: int, near: float) -> float:
        """The monotonic time at which the counter (32 bits) was at `ticks`, the one nearest to `near`."""
        ahead = (ticks - self.at(near) + 2**31) % 2**32 - 2**31
        return near + ahead / self.rate
