"""A wire to an emulator in the same process, on whatever clock the event loop runs.

The one link that works on a clock that jumps: nothing here waits for the operating system.
"""

from __future__ import annotations

import asyncio
import random
from typing import Protocol

from .link import Inbox

TICK = 0.005
"""How often a streaming instrument is asked for more, s."""


class FarEnd(Protocol):
    """What a memory link leads to: an emulator with its framing and physics."""

    @property
    def streaming(self) -> bool:
        """Whether more is to be sent unasked."""
        ...

    def stream(self, now: float) -> bytes:
        """What is sent unasked by loop time `now`, over a port of its own."""
        ...

    def unasked(self, now: float) -> bytes:
        """What is said unasked by loop time `now`, on this wire."""
        ...

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
        self._listening = False
        self.stirred = asyncio.Event()
        """Set whenever something was said to the instrument: it may stream from now on."""

    def beside(self, port: int, host: str = "") -> MemoryStream:
        """The instrument's stream port, whatever its number."""
        return MemoryStream(self)

    async def open(self) -> None:
        if not self.plugged:
            raise ConnectionError("the cable is not plugged in")
        self._inbox = Inbox()

    async def send(self, data: bytes) -> None:
        if self._inbox is None or not self.plugged:
            raise ConnectionError("the cable is not plugged in")
        if self._inbox.failed:
            raise ConnectionError("the cable was pulled")
        self.sent.append(data)
        loop = asyncio.get_running_loop()
        for delay, reply in self.far_end.receive(data, loop.time()):
            loop.call_later(delay, self._deliver, self._inbox, reply)
        self.stirred.set()
        if self._talking and not self._listening:
            self._listening = True
            loop.call_later(TICK, self._listen, self._inbox)

    async def receive(self) -> bytes:
        if self._inbox is None:
            raise ConnectionError("the cable is not plugged in")
        return await self._inbox.take()

    def discard(self) -> None:
        if self._inbox is not None:
            self._inbox.discard()

    async def close(self) -> None:
        if self._inbox is not None:
            self._inbox.fail(ConnectionError("the link was closed"))
            self._inbox = None

    def unplug(self) -> None:
        """Pull the cable."""
        self.plugged = False
        self.stirred.set()
        if self._inbox is not None:
            self._inbox.fail(ConnectionError("the cable was pulled"))

    def plug(self) -> None:
        """Put it back; an open link stays lost until it is opened again."""
        self.plugged = True

    @property
    def _talking(self) -> bool:
        return getattr(self.far_end, "talking", False)  # one that only answers need not say so

    def _listen(self, inbox: Inbox) -> None:
        """Take what is said unasked while more is to come: an idle far end costs a clock that jumps nothing."""
        loop = asyncio.get_running_loop()
        if said := self.far_end.unasked(loop.time()):
            self._deliver(inbox, said)
        self._listening = self._talking and self._inbox is inbox and self.plugged
        if self._listening:
            loop.call_later(TICK, self._listen, inbox)

    def _deliver(self, inbox: Inbox, data: bytes) -> None:
        if self.plugged:
            inbox.feed(data)


class MemoryStream:
    """The stream port of the instrument at the end of a memory link; shares its plug."""

    url = "memory:stream"

    def __init__(self, beside: MemoryLink) -> None:
        self._beside = beside
        self._open = False
        self._dither = random.Random(0)

    async def open(self) -> None:
        if not self._beside.plugged:
            raise ConnectionError("the cable is not plugged in")
        self._beside.far_end.stream(asyncio.get_running_loop().time())  # sent while nobody was there
        self._open = True

    async def send(self, data: bytes) -> None:
        raise ConnectionError("the stream port only sends")

    async def receive(self) -> bytes:
        loop = asyncio.get_running_loop()
        far_end, stirred = self._beside.far_end, self._beside.stirred
        while True:
            if not self._beside.plugged:
                raise ConnectionError("the cable was pulled")
            if not self._open:
                raise ConnectionError("the link was closed")
            stirred.clear()
            if data := far_end.stream(loop.time()):
                return data
            # An idle instrument costs a clock that jumps nothing.
            if far_end.streaming:
                # Off the beat: frames on a grid sent on another would look as if both clocks ran alike.
                await asyncio.sleep(TICK * self._dither.uniform(0.5, 1.5))
            else:
                await stirred.wait()

    def discard(self) -> None:
        """Nothing is kept here."""

    async def close(self) -> None:
        self._open = False
        self._beside.stirred.set()
