"""The wire to the broker: MQTT 3.1.1, as much of it as one who listens needs.

A client for general use spends 50 us and more on each message. Here what came in one piece is taken apart in one
piece, a few times a second (`bench/dashboard.py`), on the page's own loop. Sections are those of the OASIS standard
"MQTT Version 3.1.1".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..errors import ProtocolError
from ..telemetry.window import publish

EVERY = 0.05
"""Seconds between two looks at what came: the page shows it a few times a second."""
PIECE = 200_000
"""Bytes; of so many at once there are more (asyncio reads up to 256 KiB), and they are taken at once."""
MOST = 1 << 20
"""Bytes of a message that is still looked at; a longer one is skipped."""
ALIVE = 15
"""Seconds within which each side is heard (3.1.2.10)."""

CONNACK, PUBLISH, PUBACK, SUBACK, PINGREQ, DISCONNECT = 0x20, 0x30, 0x40, 0x90, b"\xc0\x00", b"\xe0\x00"
REFUSALS = {  # 3.2.2.3
    1: "it does not speak MQTT 3.1.1",
    2: "it does not like our name",
    3: "it is not ready",
    4: "wrong user or password",
    5: "not authorised",
}

Message = tuple[str, bytes]
"""Topic and payload."""


class Packets:
    """Cuts what comes into packets: first byte and the rest without its length (2.2)."""

    def __init__(self) -> None:
        self._rest = b""
        self._skip = 0
        self.skipped = 0
        """Packets that were too long."""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The packets that `data` completes. Raises `ProtocolError` if it can be none."""
        if self._skip:
            cut = min(self._skip, len(data))
            self._skip -= cut
            data = data[cut:]
        if self._rest:
            data = self._rest + data
        found, at, size = [], 0, len(data)
        while size - at >= 2:
            length, begin = data[at + 1], at + 2
            if length > 0x7F:
                length, shift = length & 0x7F, 7
                while begin < size and shift <= 21:
                    length |= (data[begin] & 0x7F) << shift
                    shift += 7
                    begin += 1
                    if data[begin - 1] <= 0x7F:
                        break
                else:
                    if shift > 21:
                        raise ProtocolError("the broker", "what it sends is no MQTT; is it another kind of server?")
                    break
            end = begin + length
            if length > MOST:
                self.skipped += 1
                self._skip = max(0, end - size)
                at = min(end, size)
            elif end > size:
                break
            else:
                found.append((data[at], data[begin:end]))
                at = end
        self._rest = data[at:]
        return found


def taken(head: int, body: bytes) -> tuple[str, bytes, int]:
    """Topic, payload and number (0 at QoS 0) of a PUBLISH (3.3). Raises `ProtocolError`."""
    try:
        end = 2 + (body[0] << 8 | body[1])
        topic = body[2:end].decode()
        if head & 0x06:
            return topic, body[end + 2 :], body[end] << 8 | body[end + 1]
        return topic, body[end:], 0
    except (IndexError, UnicodeDecodeError):
        raise ProtocolError("the broker", "it sends a message that is none") from None


def connect(client: str, user: str, password: str | None, alive: int = ALIVE) -> bytes:
    """A CONNECT with a clean session (3.1); `alive`: seconds, 0 for ever."""
    words, flags = [client], 0x02
    if user:
        words, flags = [*words, user], flags | 0x80
        if password is not None:
            words, flags = [*words, password], flags | 0x40
    return _packet(0x10, b"\0\4MQTT\4" + bytes((flags, *alive.to_bytes(2, "big"))) + b"".join(map(_text, words)))


def subscribe(topics: Sequence[tuple[str, int]]) -> bytes:
    """A SUBSCRIBE for topic filters, each with the greatest QoS wanted (3.8)."""
    return _packet(0x82, b"\x00\x01" + b"".join(_text(topic) + bytes((qos,)) for topic, qos in topics))


class Wire(asyncio.Protocol):
    """One connection. `deliver` is given what came, `EVERY` seconds; all of it belongs to the loop."""

    def __init__(
        self, hello: bytes, topics: Sequence[tuple[str, int]], deliver: Callable[[list[Message]], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[int] = self._loop.create_future()
        """What the broker answered (`REFUSALS`); 0: it is listened to."""
        self.lost: asyncio.Future[Exception | None] = self._loop.create_future()
        """Done when the connection is no more."""
        self._hello, self._topics, self._deliver = hello, topics, deliver
        self._packets = Packets()
        self._transport: asyncio.Transport | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._number = 0
        self._heard = self._spoke = self._loop.time()

    @property
    def skipped(self) -> int:
        """Messages that were too long to be looked at."""
        return self._packets.skipped

    def publish(self, topic: str, payload: bytes) -> None:
        """Send at QoS 1. Whether it had an effect is for the answer to say."""
        self._number = self._number % 0xFFFF + 1
        self._write(publish(topic, payload, self._number, retain=False))

    def look(self) -> None:
        """Keep the connection alive, and give it up if the broker has fallen silent; call it about once a second."""
        now = self._loop.time()
        if now - self._heard > 1.5 * ALIVE and self._transport is not None:
            self._transport.abort()
        elif now - self._spoke > ALIVE / 2:
            self._write(PINGREQ)

    def close(self) -> None:
        """Say good-bye and close."""
        if self._transport is not None and not self._transport.is_closing():
            self._write(DISCONNECT)
            self._transport.close()

    # ------------------------------------------------------------------ called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._write(self._hello)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        transport = self._transport
        assert transport is not None
        messages: list[Message] = []
        acknowledgements = bytearray()
        try:
            for head, body in self._packets.feed(data):
                if head & 0xF0 == PUBLISH:
                    topic, payload, number = taken(head, body)
                    messages.append((topic, payload))
                    if number:
                        acknowledgements += bytes((PUBACK, 2)) + number.to_bytes(2, "big")
                elif head == CONNACK and not self.accepted.done():
                    self.accepted.set_result(body[1])
                    if body[1] == 0:
                        self._write(subscribe(self._topics))
        except (ProtocolError, IndexError):
            transport.abort()
        if acknowledgements:
            self._write(bytes(acknowledgements))
        if messages:
            self._deliver(messages)
            # What comes next waits with the system, and is taken together: else 5000 messages are 5000 turns.
            if len(data) < PIECE and not transport.is_closing():
                transport.pause_reading()
                self._pause = self._loop.call_later(EVERY, self._resume)

    def connection_lost(self, error: Exception | None) -> None:
        if self._pause is not None:
            self._pause.cancel()
        if not self.lost.done():
            self.lost.set_result(error)

    # ------------------------------------------------------------------ private

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _write(self, data: bytes) -> None:
        self._spoke = self._loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _packet(head: int, body: bytes) -> bytes:
    length, lengths = len(body), bytearray()
    while length > 0x7F:
        lengths.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes((head, *lengths, length)) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data
