"""The cork: lets small messages leave together, and takes acknowledgements as they come.

paho gives each message to the system by itself, and makes six objects of each acknowledgement, which it
reads in three pieces: with a thousand signals that is more work than all the rest (`bench/telemetry.py`).
Corked, paho keeps the connection (TLS, keep-alive, its end); messages pass it by. What is sent in one
turn of the loop leaves in one piece at the end of that turn.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import aiomqtt

HOLD = 64 << 10
"""Bytes held back, at most, while the broker is slow."""
AGAIN = 0.005
"""Seconds until a broker that was slow is tried again."""
CHUNK = 16 << 10  # bytes read at once
PUBACK = 0x40  # MQTT 3.1.1, 3.4.1
NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantWriteError)


class Cork:
    """The socket of a connection, as far as paho uses it. All of it belongs to the loop."""

    def __init__(self, client: aiomqtt.Client, acknowledged: Callable[[int], None]) -> None:
        """Cork the open connection of `client`; `acknowledged` is called with the number of each message that the
        broker has, and with 0 when a broker that was slow takes more. Raises `MqttError`.
        """
        paho: Any = client._client
        if paho.socket() is None:
            raise aiomqtt.MqttError("the connection was lost")
        self._socket: Any = paho.socket()
        self._acknowledged = acknowledged
        self._loop = asyncio.get_running_loop()
        self._out, self._came, self._in = bytearray(), bytearray(), bytearray()
        self._due = False
        self._stuck: float | None = None
        paho._sock = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    @property
    def full(self) -> bool:
        """Whether the broker is slow, so that nothing more should be written."""
        return len(self._out) >= HOLD

    @property
    def stuck(self) -> float:
        """Seconds since the broker last took something, while it should."""
        return 0.0 if self._stuck is None else monotonic() - self._stuck

    def write(self, data: bytes) -> None:
        """Send a whole message with this turn of the loop."""
        self._out += data
        if not self._due:
            self._due = True
            self._loop.call_soon(self._leave)

    # ------------------------------------------------------------------ for paho and aiomqtt

    def send(self, data: bytes) -> int:
        """Take a whole message; raise `BlockingIOError` while the broker takes nothing."""
        if self.full:
            raise BlockingIOError
        self.write(data)
        return len(data)

    def recv(self, most: int) -> bytes:
        """Up to `most` bytes of what came besides acknowledgements. Raises `BlockingIOError` if there is nothing."""
        if not self._in:
            data = self._socket.recv(CHUNK)
            if not data:
                return b""
            self._came += data
            self._sort()
            if not self._in:
                raise BlockingIOError
        taken = bytes(self._in[:most])
        del self._in[:most]
        return taken

    def pending(self) -> int:
        """Bytes that have come, and of which the system does not know any more: aiomqtt asks."""
        below = getattr(self._socket, "pending", None)
        return len(self._in) or (below() if below is not None else 0)

    def close(self) -> None:
        """Send what is left, as far as it goes at once, and close."""
        with suppress(OSError):
            self._flush()
        self._out.clear()
        self._socket.close()

    # ------------------------------------------------------------------ private

    def _sort(self) -> None:
        """Take out whole messages: acknowledgements for us, all others for paho."""
        came, at = self._came, 0
        while (end := _end(came, at)) is not None:
            if came[at] == PUBACK and end - at >= 4:
                self._acknowledged(came[at + 2] << 8 | came[at + 3])
            else:
                self._in += came[at:end]
            at = end
        del came[:at]

    def _leave(self) -> None:
        self._due = False
        was_full = self.full
        try:
            self._flush()
        except OSError:  # paho finds out when it reads
            self._out.clear()
        if self._out:
            self._due = True
            self._loop.call_later(AGAIN, self._leave)
        if was_full and not self.full:
            self._acknowledged(0)

    def _flush(self) -> None:
        while self._out:
            try:
                sent = self._socket.send(self._out)
            except NOT_NOW:
                self._stuck = self._stuck or monotonic()
                return
            del self._out[:sent]
            self._stuck = None


def _end(data: bytearray, at: int) -> int | None:
    """Where the message that begins at `at` ends; None: it has not come yet (MQTT 3.1.1, 2.2.3)."""
    length, shift = 0, 0
    for place in range(at + 1, min(at + 5, len(data))):
        length |= (data[place] & 0x7F) << shift
        shift += 7
        if not data[place] & 0x80:
            end = place + 1 + length
            return end if end <= len(data) else None
    return None
