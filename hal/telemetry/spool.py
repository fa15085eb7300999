"""The spool: what is on its way to the broker, in memory and for less than a second.

Filled by the lab's loop, emptied by whoever talks to the broker, perhaps on another thread. What the
broker does not take at once is fetched from here by the keeper of the outbox (`overdue`) and goes to
disk. Messages leave in the order they came, whichever way they leave: that is what keeps the live and
the history of each signal in order.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ..model.journal import Event
from .tally import Tally

PATIENCE = 0.5
"""Seconds a message may be on its way before it is written down as well."""
QUEUE = 50_000
"""Messages held in memory, at most; only a disk that hangs lets it come to that."""
EVENTS = 1000
"""Events that may wait while the broker is away."""
PASSING = 100
"""Messages of passing interest that may wait."""


@dataclass(slots=True)
class Counts:
    """What became of the readings and events handed in, in this session."""

    published: int = 0
    """Messages of readings that the broker has, live."""
    history: int = 0
    """Messages of readings that the broker has, as history."""
    stored: int = 0
    """Messages of readings that went to the outbox."""
    dropped: int = 0
    """Messages of readings lost because nothing could take them: broker away and disk hanging."""
    events: int = 0
    """Events that the broker has."""
    events_dropped: int = 0
    """Events lost because the broker was away for too long."""


class Message:
    """A reading as it will be sent, or several in one."""

    __slots__ = ("at", "count", "payload", "stored", "topic")

    def __init__(self, topic: str, payload: bytes, count: int, at: float) -> None:
        self.topic, self.payload = topic, payload
        self.count = count
        """Readings in it."""
        self.at = at
        """When it was handed in, s."""
        self.stored = False
        """Whether the outbox has it, or is about to."""


class Spool:
    """Readings, events and states on their way to the broker. Any method may be called from any thread."""

    def __init__(self, *, tally: Tally | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts = Counts()
        self.tally = tally or Tally.in_memory()
        """What was acquired, and what of it is safe: with the broker or on disk."""
        self._clock = clock
        self._lock = threading.Lock()
        self._connected = False
        self._queue: deque[Message] = deque()
        self._under_way: dict[Message, None] = {}
        self._aside: deque[Message] = deque()  # for the outbox, older than all others
        self._newest: dict[str, Message] = {}  # of each signal, if it did not go live
        self._greeting: deque[Message] = deque()  # these, once it is back
        self._events: deque[tuple[int, Event]] = deque()
        self._events_under_way: dict[int, Event] = {}
        self._entered = 0
        self._states: dict[str, bytes] = {}
        self._retained: dict[str, bytes] = {}
        self._passing: deque[tuple[str, bytes]] = deque(maxlen=PASSING)

    # ------------------------------------------------------------------ readings: every one, in order

    def put(self, topic: str, payload: bytes, count: int = 1, acquired: int = 1) -> None:
        """Hand in a message that stands for `count` readings, `acquired` of which are new to the tally."""
        message = Message(topic, payload, count, self._clock())
        with self._lock:
            self.tally.acquired += acquired
            if self._connected:
                self._queue.append(message)
                self._newest.pop(topic, None)
            else:
                self._put_aside(message)
                self._newest[topic] = message
            if len(self._queue) + len(self._aside) > QUEUE:
                lost = (self._aside or self._queue).popleft()
                self.counts.dropped += 1
                self.tally.dropped_hung += 1
                self.tally.settled += lost.count  # not safe, but told of already

    def held_back(self) -> None:
        """There was a reading that a later message will stand for."""
        with self._lock:
            self.tally.acquired += 1

    def begin(self) -> None:
        """The broker is there. First it gets the newest reading of each signal, for whoever looks."""
        with self._lock:
            self._connected = True
            self._greeting.extend(self._newest.values())
            self._newest.clear()
            self._states = dict(self._retained)  # it may have forgotten what it was to retain

    def take(self) -> Message | None:
        """The next message to send live; it is under way until `confirmed` or `cut`."""
        with self._lock:
            waiting = self._greeting or self._queue
            if not waiting:
                return None
            message = waiting.popleft()
            self._under_way[message] = None
            return message

    def confirmed(self, message: Message) -> None:
        """The broker has it."""
        with self._lock:
            self._under_way.pop(message, None)
            self.counts.published += 1
            if not message.stored:
                message.stored = True
                self.tally.settled += message.count

    def cut(self) -> None:
        """The broker is lost: what was under way, or waited, is for the outbox."""
        with self._lock:
            self._connected = False
            for message in (*self._under_way, *self._greeting, *self._queue):
                if not message.stored:
                    self._put_aside(message)
                if (newest := self._newest.get(message.topic)) is None or newest.at <= message.at:
                    self._newest[message.topic] = message
            self._events.extendleft(reversed(self._events_under_way.items()))
            self._events_under_way.clear()
            for waiting in (self._under_way, self._greeting, self._queue, self._passing):
                waiting.clear()

    def overdue(self) -> list[Message]:
        """What is to be written down, oldest first: all that has been on its way for too long.

        What is under way stays so and may arrive as well; what only waits will not go live any more.
        """
        with self._lock:
            limit = self._clock() - PATIENCE
            late = [message for message in self._under_way if message.at <= limit and not message.stored]
            while self._queue and self._queue[0].at <= limit:
                late.append(message := self._queue.popleft())
                self._newest[message.topic] = message
            for message in late:
                self._put_aside(message)
            overdue = list(self._aside)
            self._aside.clear()
            return overdue

    def stored(self, messages: int, readings: int) -> None:
        """What `overdue` gave is on disk."""
        with self._lock:
            self.counts.stored += messages
            self.tally.settled += readings

    @property
    def first(self) -> bool:
        """Whether something waits that goes before readings: an event, a state, or what is of passing interest."""
        return bool(self._events or self._states or self._passing)

    # ------------------------------------------------------------------ states: only the newest of each is of interest

    def put_state(self, topic: str, payload: bytes) -> None:
        """Hand in what is to be retained under a topic; it replaces what waits there."""
        with self._lock:
            self._states[topic] = self._retained[topic] = payload

    def take_state(self) -> tuple[str, bytes] | None:
        """A topic that waits, and its payload; if the broker is lost all of them wait again."""
        with self._lock:
            topic = next(iter(self._states), None)
            return None if topic is None else (topic, self._states.pop(topic))

    # ------------------------------------------------------------------ events: none replaces another

    def put_event(self, event: Event) -> None:
        """Hand in a journal's entry."""
        with self._lock:
            self._entered += 1
            self._events.append((self._entered, event))
            if len(self._events) > EVENTS:
                self._events.popleft()
                self.counts.events_dropped += 1

    def take_event(self) -> tuple[int, Event] | None:
        """The oldest event that waits, with its number; it is under way until `event_sent` or `cut`."""
        with self._lock:
            if not self._events:
                return None
            number, event = self._events.popleft()
            self._events_under_way[number] = event
            return number, event

    def event_sent(self, number: int) -> None:
        """The event is with the broker."""
        with self._lock:
            if self._events_under_way.pop(number, None) is not None:
                self.counts.events += 1

    # ------------------------------------------------------------------ what nobody wants to have later

    def put_passing(self, topic: str, payload: bytes) -> None:
        """Hand in what is of interest now only; the oldest give way when too many wait."""
        with self._lock:
            if self._connected:
                self._passing.append((topic, payload))

    def take_passing(self) -> tuple[str, bytes] | None:
        """The oldest of it, or None."""
        with self._lock:
            return self._passing.popleft() if self._passing else None

    def _put_aside(self, message: Message) -> None:
        message.stored = True
        self._aside.append(message)
