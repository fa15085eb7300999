"""A camera whose frames come by a connection of their own: opened and watched here, its bytes handed on in batches."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, ClassVar

from ..errors import LinkLost
from ..transport.link import Link
from ..transport.session import LinkState
from .camera import CameraInstrument

HAND_OVER = 1 / 30
"""Seconds between two chunks."""


class StreamingCamera(CameraInstrument):
    """Base of such cameras. A driver says where the stream is, how it begins, and what its bytes mean."""

    stream_option: ClassVar[str] = "data_port"
    stream_word: ClassVar[str] = "stream"
    """What the manual calls it."""
    stream_advice: ClassVar[str] = "check host and port, and that no other program takes the frames"

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.stream: Link | None = None
        """The connection, while it is open."""
        self._reader: asyncio.Task[None] | None = None
        self._due: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------ drivers override

    def stream_link(self) -> Link:
        """The connection its frames come by."""
        raise NotImplementedError(f"{type(self).__name__} does not say where its frames come from")

    async def greet(self, link: Link) -> None:
        """Begin anew with what is received, and say what must be said first on a stream just opened."""

    def feed(self, data: bytes, now: int) -> None:
        """Keep bytes that came at lab time `now`, ns."""
        raise NotImplementedError(f"{type(self).__name__} does not keep its frames")

    def hand_over(self) -> None:
        """Parse what has come; call `new_series` and `take_in`."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its messages mean")

    # ------------------------------------------------------------------ for drivers

    async def open_stream(self) -> None:
        """Connect to the stream and begin to receive. Raises `LinkLost`."""
        await self.close_stream()
        link = self.stream_link()
        try:
            await link.open()
            await self.greet(link)
        except OSError as error:
            raise LinkLost(self.name, f"{self.stream_word} {link.url}: {error}; {self.stream_advice}") from None
        self.stream = link
        self._reader = asyncio.get_running_loop().create_task(self._receive(link), name=f"{self.name} frames")

    async def close_stream(self) -> None:
        """Let go of the stream."""
        reader, self._reader = self._reader, None
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader
        if self.stream is not None:
            await self.stream.close()
            self.stream = None

    def lose_stream(self, link: Link, error: Exception) -> None:
        """The commands may still be answered, but a camera without frames is lost all the same."""
        if self.session.state is LinkState.OPEN:
            self.session.lose(self.name, ConnectionError(f"{self.stream_word} {link.url}: {error}"))

    async def disconnecting(self) -> None:
        await self.close_stream()

    # ------------------------------------------------------------------ private

    async def _receive(self, link: Link) -> None:
        loop, now = asyncio.get_running_loop(), self.context.timebase.now
        try:
            while True:
                self.feed(await link.receive(), now())
                if self._due is None:
                    self._due = loop.call_later(HAND_OVER, self._hand_over)
        except OSError as error:
            self.lose_stream(link, error)
        finally:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self.hand_over()
