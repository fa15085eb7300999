"""The bell: wakes the one who waits for something to do."""

from __future__ import annotations

import asyncio


class Bell:
    """Wakes one who waits; for the loop's own thread. Much cheaper than a task that waits for an `Event`."""

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake who waits, or will."""
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def still(self) -> None:
        """From now on only a new ring wakes."""
        self._rung = False

    async def heard(self, seconds: float | None) -> None:
        """Return when it rings, or after `seconds`."""
        if self._rung:
            return
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self.ring) if seconds is not None else None
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
