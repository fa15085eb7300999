"""A camera whose frames come over ZeroMQ: opens the stream, stamps what arrives, hands it on in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

from hal.errors import LinkLost, ProtocolError
from hal.instrument.camera import CameraInstrument
from hal.transport.link import Link
from hal.transport.session import LinkState

from . import zmtp

HAND_OVER = 1 / 30
"""Seconds between two chunks."""


class StreamCamera(CameraInstrument):
    """Base of such cameras. A driver says where the stream is (`stream_link`) and what a message means (`decode`)."""

    stream_option: ClassVar[str] = "data_port"

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.unreadable = 0
        """Messages on the stream that could not be read."""
        self._data: Link | None = None
        self._reader: asyncio.Task[None] | None = None
        self._receiver = zmtp.Receiver("PULL")
        self._answering: asyncio.Task[None] | None = None
        self._due: asyncio.TimerHandle | None = None
        self._said = ""

    # ------------------------------------------------------------------ drivers override

    def stream_link(self) -> Link:
        """The connection its frames come by."""
        raise NotImplementedError(f"{type(self).__name__} does not say where its frames come from")

    @property
    def stream_kind(self) -> str:
        """Of our end: PULL or SUB."""
        return "PULL"

    def decode(self, messages: Sequence[zmtp.Message]) -> None:
        """Take messages apart; call `new_series` and `take_in`. ValueError for one that can't be read."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its messages mean")

    # ------------------------------------------------------------------ the stream

    async def open_stream(self) -> None:
        """Connect to the stream and begin to receive. Raises `LinkLost`."""
        await self.close_stream()
        link, self._receiver = self.stream_link(), zmtp.Receiver(self.stream_kind)
        try:
            await link.open()
            await link.send(zmtp.hello(self.stream_kind))
        except OSError as error:
            raise LinkLost(
                self.name,
                f"stream {link.url}: {error}; check host and port, and that no other program takes the frames",
            ) from None
        self._data = link
        self._reader = asyncio.get_running_loop().create_task(self._receive(link), name=f"{self.name} frames")

    async def close_stream(self) -> None:
        """Let go of the stream."""
        reader, self._reader = self._reader, None
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader
        if self._data is not None:
            await self._data.close()
            self._data = None

    async def disconnecting(self) -> None:
        await self.close_stream()

    # ------------------------------------------------------------------ private

    async def _receive(self, link: Link) -> None:
        loop, now = asyncio.get_running_loop(), self.context.timebase.now
        try:
            while True:
                self._receiver.feed(await link.receive(), now())
                if self._due is None:
                    self._due = loop.call_later(HAND_OVER, self._hand_over)
        except OSError as error:
            # The commands may still be answered, but a camera without frames is lost all the same.
            if self.session.state is LinkState.OPEN:
                self.session.lose(self.name, ConnectionError(f"stream {link.url}: {error}"))
        finally:
            self._hand_over()

    def _hand_over(self) -> None:
        """Parse what has come and pass it on."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        try:
            messages = self._receiver.take()
        except ValueError as error:
            self._complain(str(error))
            if self.session.state is LinkState.OPEN and self._data is not None:
                self.session.lose(self.name, ConnectionError(f"stream {self._data.url}: {error}"))
            return
        if self._receiver.replies and self._data is not None:
            data, self._receiver.replies = b"".join(self._receiver.replies), []
            self._answering = asyncio.get_running_loop().create_task(self._answer(self._data, data))
        if not messages:
            return
        try:
            self.decode(messages)
        except ValueError as error:
            self._complain(str(error))

    async def _answer(self, link: Link, data: bytes) -> None:
        with suppress(OSError):  # the reader finds out too
            await link.send(data)

    def _complain(self, text: str) -> None:
        """Say once what can't be read; who looks at the film must know."""
        self.unreadable += 1
        if text != self._said:
            self._said = text
            self.context.journal.note("error", self.name, text)
            for view in list(self.views):
                view.fail(ProtocolError(self.name, text))
