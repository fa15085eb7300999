"""Events in an emulated 2450 or DMM6500: what its trigger model waits for, and the timers that bring some of them.

Source: the descriptions of ``trigger.timer[N]`` and ``trigger.BLOCK_WAIT`` (as of devices.keithley_tsp); Keithley's
examples "Controlled_Ramp" and "PulseTrain_SVMI" for a 2450. Left out: timers that start at a time of day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

TIMERS = 4
MOST = 10_000
"""Events of a timer that are counted at a time; more than that nobody tells apart."""


@dataclass
class Timer:
    """One timer: events at intervals after the one that starts it."""

    delays: list[float] = field(default_factory=lambda: [1e-5])
    """s from one event to the next, over and over."""
    count: float = 1.0
    """Events each time it starts; 0: without end."""
    stimulus: str = "NONE"
    on: bool = False
    generate: bool = False
    """Whether its start is an event as well."""
    next: float | None = None
    """When the next event comes, s."""
    _times: Iterator[float] = field(default_factory=lambda: iter(()))

    def start(self, at: float) -> None:
        self._times = self._all(at)
        self.go_on()

    def go_on(self) -> None:
        self.next = next(self._times, None)

    def _all(self, at: float) -> Iterator[float]:
        if self.generate:
            yield at
        n = 0
        while not self.count or n < self.count:
            at += self.delays[n % len(self.delays)]
            n += 1
            yield at


class Events:
    """What has happened and was not waited for yet, by name (``COMM``, ``NOT1``, ``TIM1``), and what will."""

    def __init__(self) -> None:
        self.timers = {n: Timer() for n in range(1, TIMERS + 1)}
        self._seen: set[str] = set()

    def reset(self) -> None:
        """As on waking up."""
        self.timers |= {n: Timer() for n in range(1, TIMERS + 1)}
        self._seen.clear()

    def forget(self) -> None:
        """Nothing has happened, and nothing is on its way."""
        self._seen.clear()
        for timer in self.timers.values():
            timer.next = None

    def emit(self, name: str, at: float) -> None:
        """Something happens: timers that wait for it start."""
        self._seen.add(name)
        for timer in self.timers.values():
            if timer.on and timer.stimulus == name:
                timer.start(at)

    def take(self, name: str, now: float) -> bool:
        """Whether this has happened; it is forgotten with that."""
        for n, timer in self.timers.items():
            for _ in range(MOST):
                if timer.next is None or timer.next > now:
                    break
                self._seen.add(f"TIM{n}")
                timer.go_on()
        if name in self._seen:
            self._seen.discard(name)
            return True
        return False

    def due(self, name: str) -> float | None:
        """When it will happen by itself, s; None if nobody knows."""
        if name.startswith("TIM") and (timer := self.timers.get(int(name[3:] or 1))) is not None:
            return timer.next
        return None
