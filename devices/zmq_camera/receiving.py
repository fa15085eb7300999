"""A camera whose frames come over ZeroMQ: what arrives is stamped, and handed on message by message."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hal.errors import ProtocolError
from hal.instrument.streaming import StreamingCamera
from hal.protocols import zmtp
from hal.transport.link import Link


class StreamCamera(StreamingCamera):
    """Base of such cameras. A driver says where the stream is (`stream_link`) and what a message means (`decode`)."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.unreadable = 0
        """Messages on the stream that could not be read."""
        self._receiver = zmtp.Receiver("PULL")
        self._answering: asyncio.Task[None] | None = None
        self._said = ""

    # ------------------------------------------------------------------ drivers override

    @property
    def stream_kind(self) -> str:
        """Of our end: PULL or SUB."""
        return "PULL"

    def decode(self, messages: Sequence[zmtp.Message]) -> None:
        """Take messages apart; call `new_series` and `take_in`. ValueError for one that can't be read."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its messages mean")

    # ------------------------------------------------------------------ the stream

    async def greet(self, link: Link) -> None:
        self._receiver = zmtp.Receiver(self.stream_kind)
        await link.send(zmtp.hello(self.stream_kind))

    def feed(self, data: bytes, now: int) -> None:
        self._receiver.feed(data, now)

    def hand_over(self) -> None:
        try:
            messages = self._receiver.take()
        except ValueError as error:
            self._complain(str(error))
            if self.stream is not None:
                self.lose_stream(self.stream, error)
            return
        if self._receiver.replies and self.stream is not None:
            data, self._receiver.replies = b"".join(self._receiver.replies), []
            self._answering = asyncio.get_running_loop().create_task(self._answer(self.stream, data))
        if not messages:
            return
        try:
            self.decode(messages)
        except ValueError as error:
            self._complain(str(error))

    # ------------------------------------------------------------------ private

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
