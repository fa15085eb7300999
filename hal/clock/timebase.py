"""The lab's one timebase: integer nanoseconds since the UNIX epoch, on the monotonic clock.

One anchor per lab session ties the monotonic counter to the wall clock; later corrections of
the wall clock are not followed, so lab time never steps back. `perf_counter` rather than
`monotonic`, which ticks in steps of 15.6 ms on Windows before Python 3.13.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Anchor:
    """One simultaneous look at the wall clock and the monotonic counter."""

    epoch: int
    """Wall clock, ns since the UNIX epoch."""
    counter: int
    """Monotonic counter at the same moment, ns."""
    bound: int
    """Half-width of the moment's uncertainty, ns (not that of the wall clock itself)."""
    clock: str = "perf_counter"


class Timebase:
    """Lab time. Injected into everything that stamps; nothing in the HAL asks the system for the time."""

    __slots__ = ("_counter", "_offset", "_wall", "anchor")

    def __init__(self, counter: Callable[[], int], anchor: Anchor, wall: Callable[[], int] = time.time_ns) -> None:
        self._counter, self.anchor, self._wall = counter, anchor, wall
        self._offset = anchor.epoch - anchor.counter

    @classmethod
    def system(cls) -> Timebase:
        """Return a timebase anchored now; of several looks the tightest is kept."""
        looks = []
        for _ in range(16):
            before = time.perf_counter_ns()
            epoch = time.time_ns()
            after = time.perf_counter_ns()
            looks.append(Anchor(epoch, (before + after) // 2, (after - before + 1) // 2))
        return cls(time.perf_counter_ns, min(looks, key=lambda look: look.bound))

    @classmethod
    def of_loop(cls, seconds: Callable[[], float], epoch: int = 1_750_000_000_000_000_000) -> Timebase:
        """Return a timebase on a loop's own clock, such as one that jumps."""
        return cls(lambda: round(seconds() * 1e9), Anchor(epoch, 0, 0, "loop"), lambda: epoch + round(seconds() * 1e9))

    def now(self) -> int:
        """Lab time, ns since the UNIX epoch."""
        return self._counter() + self._offset

    def at(self, counter: int) -> int:
        """Lab time of a reading of the same monotonic counter."""
        return counter + self._offset

    def drift(self) -> int:
        """How far the wall clock has moved since the anchor, ns: recorded, never followed."""
        looks = []
        for _ in range(4):
            before = self._counter()
            wall = self._wall()
            after = self._counter()
            looks.append((after - before, wall - self.at((before + after) // 2)))
        return min(looks, key=lambda look: look[0])[1]
