"""Framing: where one message on a wire ends and the next begins. No I/O; both directions.

A framing object is one end of one wire: `encode` makes the bytes to send of one message, `feed`
takes bytes as they arrive in any portions and returns the messages completed by them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

Matches = Callable[[bytes], bool]
"""Tells what may be the reply to a question from other messages."""

LONGEST = 1 << 20
"""Bytes without an end of message after which a line is taken for noise and dropped."""


@dataclass(frozen=True, slots=True)
class Identifies:
    """A `Matches` that no reply to any other question passes, of another channel or unit included.

    That must follow from what a reply says of its question (a number, the parameter's name), not from its form.
    """

    fits: Matches
    numbered: bool = False
    """Nor does one to the same question asked before."""

    def __call__(self, message: bytes) -> bool:
        return self.fits(message)


class Framing(Protocol):
    """Messages from bytes and bytes from messages."""

    def encode(self, message: bytes) -> bytes:
        """Return the bytes that carry `message`."""
        ...

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages completed by `data`; keep the rest."""
        ...

    def reset(self) -> None:
        """Forget a message begun."""
        ...


class Lines:
    """Messages that end with a terminator, which may differ between the two directions."""

    __slots__ = ("_buffer", "_receive", "_send")

    def __init__(self, send: bytes, receive: bytes | None = None) -> None:
        self._send = send
        self._receive = send if receive is None else receive
        self._buffer = b""

    def encode(self, message: bytes) -> bytes:
        return message + self._send

    def feed(self, data: bytes) -> list[bytes]:
        buffer = self._buffer + data
        if self._receive not in buffer:
            self._buffer = buffer if len(buffer) <= LONGEST else b""
            return []
        *messages, self._buffer = buffer.split(self._receive)
        return messages

    def reset(self) -> None:
        self._buffer = b""


class AnyLines(Lines):
    """Lines that end with CR, LF or both, as tolerant instruments accept them; empty lines are dropped."""

    def __init__(self, send: bytes) -> None:
        super().__init__(send, b"\n")

    def feed(self, data: bytes) -> list[bytes]:
        return [line for line in super().feed(data.replace(b"\r", b"\n")) if line]


class Raw:
    """Bytes as they come: for protocols whose ends the emulator or driver finds itself."""

    def encode(self, message: bytes) -> bytes:
        return message

    def feed(self, data: bytes) -> list[bytes]:
        return [data] if data else []

    def reset(self) -> None:
        """Nothing is kept."""
