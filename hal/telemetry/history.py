"""History: sends what waited in the outbox, a little at a time and only while nothing live waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial

from . import topics
from .outbox import Outbox
from .segment import Waiting
from .spool import Spool
from .window import Window

BATCH = 8
"""Messages sent in one go."""
RATE = 1000.0
"""Messages sent in a second, at most: what happens now comes first."""
RETRY = 0.1
"""Seconds until the outbox is looked at again that had something and gave nothing."""


class _Lent:
    """A message under way."""

    __slots__ = ("done", "message")

    def __init__(self, message: Waiting) -> None:
        self.message, self.done = message, False


class History:
    """Brings the outbox to the broker. All of it belongs to the loop that sends."""

    def __init__(self, outbox: Outbox, spool: Spool, ring: Callable[[], None]) -> None:
        """`ring` is called when something has been read and can be sent."""
        self._outbox, self._spool, self._ring = outbox, spool, ring
        self._read: deque[Waiting] = deque()  # and not sent yet
        self._lent: deque[_Lent] = deque()
        self._reading: asyncio.Future[list[Waiting]] | None = None
        self._next = 0.0

    def send(self, window: Window, *, ending: bool) -> bool:
        """Send a little, if it is time; return whether there was something."""
        if ending and self._outbox.folder is not None:
            return False  # the next session sends it
        if self._in() > 0 or not (self._read or self._fetched()):
            return False
        sent = 0
        while self._read and sent < BATCH and self._room(window):
            lent = _Lent(self._read.popleft())
            self._lent.append(lent)
            if lent.message.topic:
                topic = topics.history_topic(lent.message.topic)
                window.send(topic, topics.as_history(lent.message.payload), partial(self._confirmed, lent))
            else:  # nothing is left of it
                self._confirmed(lent)
            sent += 1
        self._next = asyncio.get_running_loop().time() + (0.0 if ending else sent / RATE)
        return sent > 0

    def pause(self, window: Window, longest: float) -> float:
        """Seconds until there is something to send, `longest` at most."""
        if not self._read and (self._reading is not None or not self._outbox.unread):
            return longest
        return min(longest, self._in()) if self._room(window) else longest

    def cut(self) -> None:
        """The connection is lost: what was not confirmed is read again."""
        self._read.clear()
        self._lent.clear()
        self._reading = None
        self._outbox.rewind()

    def _fetched(self) -> bool:
        """Whether something has been read; reading begins if it has not. Aside: a disk may hang, and must not here."""
        if self._reading is None and self._outbox.unread:
            self._reading = asyncio.ensure_future(asyncio.to_thread(self._outbox.read, turn=self._outbox.turn))
            self._reading.add_done_callback(lambda _: self._ring())
        if self._reading is None or not self._reading.done():
            return False
        reading, self._reading = self._reading, None
        self._read.extend(reading.result())
        if not self._read:
            self._next = asyncio.get_running_loop().time() + RETRY
        return bool(self._read)

    def _room(self, window: Window) -> bool:
        return window.free > window.size // 2

    def _in(self) -> float:
        return self._next - asyncio.get_running_loop().time()

    def _confirmed(self, lent: _Lent) -> None:
        lent.done = True
        while self._lent and self._lent[0].done:
            message = self._lent.popleft().message
            self._outbox.confirm(message)
            self._spool.counts.history += bool(message.topic)
