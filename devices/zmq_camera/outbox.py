"""What an emulated frame server has still to send: whoever connects is greeted first, then gets what is due."""

from __future__ import annotations

from collections import deque

from hal.protocols import zmtp

BUFFER = 64 << 20
"""Bytes that wait for somebody to fetch them; beyond it frames are lost."""


class Outbox:
    """The PUSH socket of a server that owns no clock: it is told what time it is, s."""

    def __init__(self) -> None:
        self._queue: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._quiet = 0.0

    def __bool__(self) -> bool:
        """Whether something waits."""
        return bool(self._queue)

    @property
    def full(self) -> bool:
        """Whether frames are lost from now on."""
        return self._bytes > BUFFER

    def clear(self) -> None:
        """Forget what waits."""
        self._queue.clear()
        self._bytes = 0

    def greet(self, now: float) -> bytes:
        """Greet whoever connects; nobody gets a frame before having answered."""
        self._quiet = now + zmtp.HANDSHAKE
        return zmtp.hello("PUSH")

    def put(self, due: float, data: bytes) -> None:
        """To be sent at `due`, and not before what was put earlier."""
        self._queue.append((due, data))
        self._bytes += len(data)

    def take(self, now: float) -> list[bytes]:
        """Everything whose time to be sent has come."""
        if now < self._quiet:
            return []
        out = []
        while self._queue and self._queue[0][0] <= now:
            out.append(self._queue.popleft()[1])
            self._bytes -= len(out[-1])
        return out
