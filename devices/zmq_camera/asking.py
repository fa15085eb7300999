"""Questions over ZeroMQ: a REQ socket's end for drivers, a REP socket's for emulators (ZMTP 3.0, and for the
envelopes https://rfc.zeromq.org/spec/28).

Every question carries a number in its envelope, which a REP socket sends back as it came: so the answer to an older
question, come late, is never taken for this one's.
"""

from __future__ import annotations

import asyncio
from collections import deque

from hal.protocols import zmtp
from hal.transport.link import Link, beside

NUMBER = 4
"""Bytes of a question's number."""
GREETS_WITHIN = 3.0
"""Seconds the other end is given to greet."""


class Questions:
    """The asking end's framing, after the handshake. A message is a number of four bytes and the text."""

    def __init__(self) -> None:
        self._receiver = zmtp.Receiver("REQ", greeted=True)

    def encode(self, message: bytes) -> bytes:
        return zmtp.message([message[:NUMBER], b"", message[NUMBER:]])

    def feed(self, data: bytes) -> list[bytes]:
        self._receiver.feed(data, 0)
        try:
            found = [message.parts for message in self._receiver.take()]
        except ValueError:  # garbled: where the next frame begins can't be known before the next answer
            self._receiver.forget()
            return []
        return [
            b"".join((parts[0], *parts[2:])) for parts in found if len(parts) > 2 and len(parts[0]) == NUMBER
        ]  # fmt: skip

    def reset(self) -> None:
        self._receiver.forget()


class Asking:
    """A link over which questions are asked: it is open when the other end has greeted.

    Between questions nobody listens, so heartbeats are not answered there; no server asks for them unless told to.
    """

    def __init__(self, link: Link) -> None:
        self.link = link

    @property
    def url(self) -> str:
        return self.link.url

    def beside(self, port: int, host: str = "") -> Link:
        """A further connection to the same program, at another port."""
        return beside(self.link, port, host)

    async def open(self) -> None:
        await self.link.open()
        receiver = zmtp.Receiver("REQ")
        try:
            async with asyncio.timeout(GREETS_WITHIN):
                await self.link.send(zmtp.hello("REQ"))
                while not receiver.ready:
                    receiver.feed(await self.link.receive(), 0)
                    receiver.take()
        except BaseException as error:
            await self.link.close()
            if isinstance(error, TimeoutError):
                raise ConnectionError(f"{self.url} does not greet as ZeroMQ does; is it the right port?") from None
            if isinstance(error, ValueError):
                raise ConnectionError(f"{self.url}: {error}") from None
            raise

    async def send(self, data: bytes) -> None:
        await self.link.send(data)

    async def receive(self) -> bytes:
        return await self.link.receive()

    def discard(self) -> None:
        """Forget what has arrived and was not received."""
        self.link.discard()

    async def close(self) -> None:
        await self.link.close()


class Answers:
    """The answering end's framing, from the first byte of a connection on.

    A server that owns no port can't greet by itself: an empty message stands for what must be sent back at once, and
    is to be answered with an empty message. Every message must be answered, in order.
    """

    def __init__(self) -> None:
        self._receiver = zmtp.Receiver("REP")
        self._begun = self._broken = False
        self._envelopes: deque[tuple[list[bytes], bytes]] = deque()

    def encode(self, message: bytes) -> bytes:
        envelope, as_it_is = self._envelopes.popleft() if self._envelopes else ([], b"")
        return as_it_is or zmtp.message([*envelope, b"", message])

    def feed(self, data: bytes) -> list[bytes]:
        if data.startswith(zmtp.SIGNATURE):  # never within a connection; but one in memory that is opened again is new
            self._receiver = zmtp.Receiver("REP")
            self._begun = self._broken = False
            self._envelopes.clear()
        if self._broken:  # a real one has hung up
            return []
        out: list[bytes] = []
        if not self._begun:
            self._begun = True
            self._envelopes.append(([], zmtp.hello("REP")))
            out.append(b"")
        self._receiver.feed(data, 0)
        try:
            found = self._receiver.take()
        except ValueError:
            self._broken = True
            return out
        for reply in self._receiver.replies:
            self._envelopes.append(([], reply))
            out.append(b"")
        self._receiver.replies.clear()
        for message in found:
            parts = [bytes(part) for part in message.parts]
            if b"" not in parts:
                continue  # no question: a real one drops it too
            end = parts.index(b"")
            self._envelopes.append((parts[:end], b""))
            out.append(b"".join(parts[end + 1 :]) or b" ")
        return out

    def reset(self) -> None:
        """Nothing can be forgotten: the connection goes on."""
