"""A link on which the instrument also speaks unasked: replies go to the session, the rest to whoever listens.

A session reads only while it waits for a reply, and throws away what nobody asked for. An instrument
that streams over the same wire needs a reader at all times: the tap is that reader. It hands
everything that arrives to `sort`, which keeps what is not a reply and returns the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .link import Inbox, Link

Sort = Callable[[bytes], bytes]


class Tap:
    """Any link, read continuously while it is open."""

    def __init__(self, link: Link, sort: Sort, lost: Callable[[OSError], object] | None = None) -> None:
        """`lost` is told when the wire goes while nobody asks anything; a session finds out by asking."""
        self.link, self.sort, self.lost = link, sort, lost
        self._inbox = Inbox()
        self._reader: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return self.link.url

    async def open(self) -> None:
        await self._stop()
        await self.link.open()
        self._inbox = Inbox()
        self._reader = asyncio.get_running_loop().create_task(self._read(self._inbox), name=f"reader of {self.url}")

    async def send(self, data: bytes) -> None:
        await self.link.send(data)

    async def receive(self) -> bytes:
        return await self._inbox.take()

    def discard(self) -> None:
        self._inbox.discard()  # what is still on the way is not ours to drop: it may be stream

    async def close(self) -> None:
        await self._stop()
        await self.link.close()

    async def _stop(self) -> None:
        reader, self._reader = self._reader, None
        self._inbox.fail(ConnectionError(f"{self.url} was closed"))
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()
            await asyncio.wait([reader])

    async def _read(self, inbox: Inbox) -> None:
        while True:
            try:
                replies = self.sort(await self.link.receive())
            except Exception as error:  # whatever it was, nobody reads any more: better the wire is gone than silent
                why = str(error)
                if not isinstance(error, OSError):
                    why = f"what arrived can't be sorted: {type(error).__name__}: {why}"
                reason = error if isinstance(error, ConnectionError) else ConnectionError(why)
                inbox.fail(reason)
                if self.lost is not None:
                    self.lost(reason)
                return
            if replies:
                inbox.feed(replies)
