"""The bench: emulators on their wires in one shared world, all advanced in step.

A bench owns no clock either: whoever serves it (a memory link, a pty, a socket) says what time it
is whenever something happens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .emulator import Emulator, World

STEP = 0.01
"""Longest step of the physics, s."""
CATCH_UP = 3600.0
"""Longest span lived through at once, s; more is skipped (a laptop that slept)."""


class Bench:
    """One world and everything in it, brought to the same moment."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.emulators: list[Emulator] = []
        self.watchers: list[Callable[[float], None]] = []
        """Called with the time after every step: for those who keep the truth."""
        self._now: float | None = None

    @property
    def now(self) -> float | None:
        """Until when everything has been lived through; None before the first moment."""
        return self._now

    def wire(self, emulators: Sequence[Emulator], scheme: str) -> EmulatedWire:
        """Put emulators on one wire; they answer to their own unit only."""
        self.emulators += [e for e in emulators if e not in self.emulators]
        return EmulatedWire(self, emulators, scheme)

    def advance_to(self, now: float) -> None:
        """Live until `now`, in seconds on whatever clock the caller uses throughout."""
        if self._now is None:
            self._now = now
        if now - self._now > CATCH_UP:
            self._now = now - CATCH_UP
        while (left := now - self._now) > 0:
            step = left if left < STEP else STEP
            self.world.advance(step)
            for emulator in self.emulators:
                emulator.advance(step)
            self._now = self._now + step if step < left else now
            for watcher in self.watchers:
                watcher(self._now)


class EmulatedWire:
    """The instruments' end of one wire, for one connection: bytes in, bytes out, each with its delay."""

    def __init__(self, bench: Bench, emulators: Sequence[Emulator], scheme: str) -> None:
        self.bench, self.emulators, self.scheme = bench, emulators, scheme
        self._framing = emulators[0].framing(scheme)

    def connection(self) -> EmulatedWire:
        """The same instruments for a further connection, with a framing of its own."""
        return EmulatedWire(self.bench, self.emulators, self.scheme)

    @property
    def streaming(self) -> bool:
        """Whether one of the instruments has more to send unasked."""
        return any(getattr(emulator, "streaming", False) for emulator in self.emulators)

    def stream(self, now: float) -> bytes:
        """What the instruments send unasked by time `now`, over a port of their own."""
        self.bench.advance_to(now)
        streams = [getattr(emulator, "stream", None) for emulator in self.emulators]
        return b"".join(piece for stream in streams if stream is not None for piece in stream())

    @property
    def talks(self) -> bool:
        """Whether one of the instruments may say something by itself, on this wire."""
        return any(hasattr(emulator, "unasked") for emulator in self.emulators)

    @property
    def talking(self) -> bool:
        """Whether one of them is going to."""
        return any(getattr(emulator, "talking", False) for emulator in self.emulators)

    def unasked(self, now: float) -> bytes:
        """What the instruments say by themselves by time `now`, on this wire."""
        self.bench.advance_to(now)
        mouths = [emulator.unasked for emulator in self.emulators if hasattr(emulator, "unasked")]
        return b"".join(self._framing.encode(said) for mouth in mouths for said in mouth())

    def receive(self, data: bytes, now: float) -> list[tuple[float, bytes]]:
        """Take bytes at time `now`; return what is answered and after how many seconds."""
        self.bench.advance_to(now)
        out = []
        for message in self._framing.feed(data):
            for emulator in self.emulators:
                reply = emulator.respond(message)
                if reply is not None:
                    out.append((emulator.reply_delay, self._framing.encode(reply)))
        return out
