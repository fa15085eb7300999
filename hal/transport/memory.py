"""A wire to an emulator in the same process, on whatever clock the event loop runs.

The one link that works on a clock that jumps: nothing here waits for the operating system.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from .link import Inbox


class FarEnd(Protocol):
    """What a memory link leads to: an emulator with its framing and physics."""

    def receive(self, data: bytes, now: float) -> list[tuple[float, bytes]]:
        """Take bytes at loop time `now`; return what is sent back and after how many seconds."""
        ...


class MemoryLink:
    """Bytes to a `FarEnd` and back; keeps what passed for tests to look at."""

    url = "memory:"

    def __init__(self, far_end: FarEnd) -> None:
        self.far_end = far_end
        self.plugged = True
        self.sent: list[bytes] = []
        self._inbox: Inbox | None = None

    async def open(self) -> None:
        if not self.plugged:
            raise ConnectionError("the cable is not plugged in")
        self._inbox = Inbox()

    async def send(self, data: bytes) -> None:
        if self._inbox is None or not self.plugged:
            raise ConnectionError("the cable is not plugged in")
        self.sent.append(data)
        loop = asyncio.get_running_loop()
        for delay, reply in self.far_end.receive(data, loop.time()):
            loop.call_later(delay, self._deliver, self._inbox, reply)

    async def receive(self) -> bytes:
        if self._inbox is None:
            raise ConnectionError("the cable is not plugged in")
        return await self._inbox.take()

    async def close(self) -> None:
        if self._inbox is not None:
            self._inbox.fail(ConnectionError("the link was closed"))
            self._inbox = None

    def unplug(self) -> None:
        """Pull the cable."""
        self.plugged = False
        if self._inbox is not None:
            self._inbox.fail(ConnectionError("the cable was pulled"))

    def plug(self) -> None:
        """Put it back; an open link stays lost until it is opened again."""
        self.plugged = True

    def _deliver(self, inbox: Inbox, data: bytes) -> None:
        if self.plugged:
            inbox.feed(data)
