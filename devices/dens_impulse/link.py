"""The two connections to Impulse: orders over one, and over the other everything it measures."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from devices.zmq_camera.asking import Asking
from hal.protocols import zmtp
from hal.transport.link import Link
from hal.transport.session import LinkState, Session

from . import codec

FRESH = 1.0
"""Seconds after which the newest sample is too old to answer with; the next is waited for."""


class ImpulseLink(Asking):
    """One session's link to Impulse, shared by its devices: open when both connections are."""

    def __init__(self, link: Link, session: Session, data_port: int) -> None:
        super().__init__(link)
        self.on_event: list[Callable[[dict[str, Any]], None]] = []
        """Told of everything on the topic `events`."""
        self.unreadable = 0
        """Pieces of data that could not be read."""
        self._session, self._port = session, data_port
        self._newest: dict[str, tuple[dict[str, Any], int]] = {}
        self._skipped: dict[str, int] = {}
        self._came: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._data: Link | None = None
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, session: Session, data_port: int) -> ImpulseLink:
        """The link of a session, with its second connection."""
        if not isinstance(session.link, cls):
            session.link = cls(session.link, session, data_port)
        return session.link

    async def open(self) -> None:
        await self.close()
        await super().open()
        try:
            data, receiver = await self._subscribed()
        except OSError as error:
            await super().close()
            raise ConnectionError(f"data port {self._port}: {error}") from None
        self._reader = asyncio.get_running_loop().create_task(self._read(data, receiver), name=f"data of {self.url}")

    async def close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader
        data, self._data = self._data, None
        if data is not None:
            await data.close()
        self._newest.clear()
        await super().close()

    def forget(self, topic: str) -> None:
        """Something was changed: the samples that are here, and one that may be on its way, do not show it yet."""
        self._newest.pop(topic, None)
        self._skipped[topic] = 1

    def newest(self, topic: str) -> dict[str, Any]:
        """The newest sample of a topic, however old; empty if there is none."""
        return self._newest.get(topic, ({}, 0))[0]

    async def sample(self, topic: str) -> tuple[dict[str, Any], int]:
        """The newest sample of a topic and when it came (lab time, ns); waits for one that is fresh enough."""
        while True:
            found = self._newest.get(topic)
            if found is not None and self._session.timebase.now() - found[1] < FRESH * 1e9:
                return found
            self._came[topic].clear()
            await self._came[topic].wait()

    # ------------------------------------------------------------------ private

    async def _subscribed(self) -> tuple[Link, zmtp.Receiver]:
        self._data = data = self.beside(self._port)
        await data.open()
        try:
            await data.send(zmtp.hello("SUB"))
        except ConnectionError:  # a stream in memory takes nothing, and greets nobody
            return data, zmtp.Receiver("SUB", greeted=True)
        return data, zmtp.Receiver("SUB")

    async def _read(self, data: Link, receiver: zmtp.Receiver) -> None:
        try:
            while True:
                receiver.feed(await data.receive(), self._session.timebase.now())
                try:
                    messages = receiver.take()
                except ValueError as error:
                    if not receiver.ready:
                        raise ConnectionError(str(error)) from None
                    self.unreadable += 1  # where the next message begins, only a new connection shows
                    await data.close()
                    data, receiver = await self._subscribed()
                    continue
                if receiver.replies:
                    replies, receiver.replies = b"".join(receiver.replies), []
                    await data.send(replies)
                for message in messages:
                    self._take(message)
        except OSError as error:
            if self._session.state is LinkState.OPEN:
                self._session.lose("", ConnectionError(f"data port {self._port}: {error}"))

    def _take(self, message: zmtp.Message) -> None:
        try:
            topic, found = codec.parse_published(message.parts)
        except ValueError:
            self.unreadable += 1
            return
        if topic == codec.EVENTS:
            for told in self.on_event:
                told(found)
        elif self._skipped.pop(topic, 0) == 0:
            self._newest[topic] = found, message.arrival
            self._came[topic].set()
