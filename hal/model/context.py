"""What every device of a lab shares: its time, gate, journal and polls. Handed in, never global."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ..clock.timebase import Timebase
from ..errors import HalError
from ..gate import Gate, Purpose
from .journal import Journal
from .poll import Polls


class Pending(Protocol):
    """Something a script waits for that a trip must end."""

    def fail(self, error: Exception) -> None:
        """End now, raising `error` to whoever waits."""
        ...


class Context:
    """Shared by the devices of one lab; a device opened alone makes its own."""

    def __init__(self, timebase: Timebase | None = None, gate: Gate | None = None) -> None:
        self.timebase = timebase or Timebase.system()
        self.gate = gate or Gate()
        self.journal = Journal(self.timebase)
        self.polls = Polls()
        self.tripped: str | None = None
        """What happened, while a trip is in force."""
        self.pending: set[Pending] = set()
        self.reached: set[asyncio.Task[object]] = set()
        """The tasks that have met the trip in force, as an error raised to them."""
        self.unobserved: list[Exception] = []
        """Errors of operations that nobody awaited; raised when the lab closes."""

    def fail_pending(self, error: Exception) -> None:
        """End every operation and iterator under way with `error`."""
        for pending in list(self.pending):
            pending.fail(error)

    def refusal(self) -> Exception | None:
        """What a write is refused with while a trip is in force."""
        if self.tripped is not None:
            try:
                self.gate.check(Purpose.COMMAND)
            except HalError as error:
                return error
        return None

    def delivered(self, error: Exception) -> Exception:
        """Note that `error` is being raised to the running task; return it."""
        task = asyncio.current_task()
        if task is not None and self.gate.closed:
            self.reached.add(task)
        return error

    async def close(self) -> None:
        """Stop all polls."""
        await self.polls.close()
