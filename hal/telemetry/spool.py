"""The spool: what waits for the broker. Bounded; of each signal the newest reading wins.

Filled by the lab's loop and emptied by whoever talks to the broker, perhaps on another thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..model.journal import Event
from ..model.reading import Reading

CHANGES = 8
"""Readings of one signal that may wait: its latest changes of quality, then the newest."""
EVENTS = 1000
"""Events that may wait while the broker is away."""


@dataclass(slots=True)
class Counts:
    """What became of the readings and events handed in."""

    published: int = 0
    """Readings handed to the broker."""
    thinned: int = 0
    """Readings replaced by a newer one because the signal is faster than its rate limit."""
    dropped: int = 0
    """Readings replaced by a newer one because the broker was slow or away."""
    events: int = 0
    """Events handed to the broker."""
    events_dropped: int = 0
    """Events lost because the broker was away for too long."""


class _Lane:
    """What waits of one signal."""

    __slots__ = ("due", "sent", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[Reading[Any]] = deque()
        self.sent: Reading[Any] | None = None
        self.due = -math.inf

    def ready(self, now: float) -> bool:
        # A change of quality does not wait for the rate limit.
        return now >= self.due or self.sent is None or self.waiting[0].quality is not self.sent.quality


class Spool:
    """Readings and events on their way to the broker. Any method may be called from any thread."""

    def __init__(self, rate: float = 10.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`rate`: readings of one signal passed on per second, at most."""
        self.counts = Counts()
        self._interval, self._clock = 1 / rate, clock
        self._lock = threading.Lock()
        self._lanes: dict[str, _Lane] = {}
        self._busy: dict[str, _Lane] = {}  # those with something waiting, longest served first
        self._events: deque[tuple[int, Event]] = deque()
        self._entered = 0
        self._states: dict[str, bytes] = {}

    def put(self, topic: str, reading: Reading[Any]) -> None:
        """Hand in a reading. It replaces a waiting one of the same quality."""
        with self._lock:
            lane = self._lanes.setdefault(topic, _Lane())
            waiting = lane.waiting
            if waiting and waiting[-1].quality is reading.quality:
                waiting[-1] = reading
                self._lost(lane)
            else:
                waiting.append(reading)
                if len(waiting) > CHANGES:
                    waiting.popleft()
                    self._lost(lane)
            self._busy.setdefault(topic, lane)

    def take(self, *, hurry: bool = False) -> tuple[str, Reading[Any]] | None:
        """The next reading to send, the signals in turn; None if none is due (`hurry`: if none waits)."""
        now = self._clock()
        with self._lock:
            topic = next((topic for topic, lane in self._busy.items() if hurry or lane.ready(now)), None)
            if topic is None:
                return None
            lane = self._busy[topic]
            reading = lane.waiting.popleft()
            lane.sent, lane.due = reading, now + self._interval
            del self._busy[topic]
            if lane.waiting:
                self._busy[topic] = lane
            return topic, reading

    def sent(self) -> None:
        """What was taken is with the broker."""
        with self._lock:
            self.counts.published += 1

    def give_back(self, topic: str, reading: Reading[Any]) -> None:
        """What was taken could not be sent; it waits again unless a newer one does."""
        with self._lock:
            lane = self._lanes[topic]
            lane.due, lane.sent = -math.inf, None
            if len(lane.waiting) < CHANGES and not (lane.waiting and lane.waiting[0].quality is reading.quality):
                lane.waiting.appendleft(reading)
                self._busy.setdefault(topic, lane)
            else:
                self.counts.dropped += 1

    def wait(self) -> float | None:
        """Seconds until `take` has something, if nothing else comes; None: nothing waits."""
        now = self._clock()
        with self._lock:
            if not self._busy:
                return None
            return min(0.0 if lane.ready(now) else lane.due - now for lane in self._busy.values())

    # ------------------------------------------------------------------ states: only the newest of each is of interest

    def put_state(self, topic: str, payload: bytes) -> None:
        """Hand in what is to be retained under a topic; it replaces what waits there."""
        with self._lock:
            self._states[topic] = payload

    def first_state(self) -> tuple[str, bytes] | None:
        """A topic that waits, and its payload; `state_sent` takes it off."""
        with self._lock:
            return next(iter(self._states.items()), None)

    def state_sent(self, topic: str, payload: bytes) -> None:
        """This payload is with the broker; a newer one goes on waiting."""
        with self._lock:
            if self._states.get(topic) == payload:
                del self._states[topic]

    # ------------------------------------------------------------------ events: none replaces another

    def put_event(self, event: Event) -> None:
        """Hand in a journal's entry."""
        with self._lock:
            self._entered += 1
            self._events.append((self._entered, event))
            if len(self._events) > EVENTS:
                self._events.popleft()
                self.counts.events_dropped += 1

    def first_event(self) -> tuple[int, Event] | None:
        """The oldest event that waits, with its number; `event_sent` takes it off."""
        with self._lock:
            return self._events[0] if self._events else None

    def event_sent(self, number: int) -> None:
        """The event is with the broker."""
        with self._lock:
            if self._events and self._events[0][0] == number:
                self._events.popleft()
            self.counts.events += 1

    def _lost(self, lane: _Lane) -> None:
        if self._clock() < lane.due:
            self.counts.thinned += 1
        else:
            self.counts.dropped += 1
