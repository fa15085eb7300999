"""Emulators: instruments at the far end of a wire, with neither port nor clock of their own.

The same emulator runs behind a pty or socket, in memory, and on a clock that jumps, because
whoever runs it brings it the messages and the time.
"""

from __future__ import annotations

from typing import Protocol

from ..protocols.framing import Framing


class World(Protocol):
    """The physics that emulators share."""

    def advance(self, dt: float) -> None:
        """Let `dt` seconds pass."""
        ...


class Emulator(Protocol):
    """An instrument: answers messages, lives in time.

    Built as ``Emulator(world, unit=..., channel=..., **settings)``; several units on one wire are
    several emulators that each stay silent when another is addressed.
    """

    reply_delay: float
    """Seconds from a message to its answer."""

    def framing(self, scheme: str) -> Framing:
        """A fresh framing for the instrument's end of a link of this scheme."""
        ...

    def respond(self, message: bytes) -> bytes | None:
        """Take a message; return the answer, framed by the same framing, or None for silence."""
        ...

    def advance(self, dt: float) -> None:
        """Let `dt` seconds pass; the world has already been advanced."""
        ...


class Talking(Protocol):
    """An emulator that also says things by itself on the line on which it is asked: that a move has ended."""

    @property
    def talking(self) -> bool:
        """Whether more is to come."""
        ...

    def unasked(self) -> list[bytes]:
        """What it has said by itself since it was last asked this."""
        ...


class Streaming(Protocol):
    """An emulator that also sends unasked, over a port of its own (a detector's frames)."""

    def stream(self) -> list[bytes]:
        """What is to be sent now to everybody connected to the stream port."""
        ...
