"""The driver and the core in one process, on the clock that jumps: a wire on which everything can be done to a message.

No program, no pseudo-terminal, no waiting: what the machine is doing meanwhile can't be seen here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from stepped import HOLDER, MS, Stepped, eeprom

from devices.insitu_mcu.driver import InsituMcu
from hal.clock.timebase import Timebase
from hal.gate import Gate
from hal.model.context import Context
from hal.protocols import firmware
from hal.testing import put_away
from hal.transport.session import Reconnect, Session

LOOK = 0.001
"""s between two looks at what the board has said."""


class SteppedLink:
    """The core's time is the loop's. Whole messages pass through a hand."""

    url = "stepped://"

    def __init__(self, core: Stepped) -> None:
        self.core = core
        self.told: Callable[[bytes], list[bytes]] = lambda message: [message]
        """What becomes of a message of the board."""
        self.said: Callable[[bytes], list[bytes]] = lambda message: [message]
        """What becomes of a message to it."""
        self.world: Callable[[float], object] = lambda seconds: None
        """What lives beside the board, a millisecond at a time."""
        self.gone = False
        self._to, self._from = firmware.FirmwareFraming(), firmware.FirmwareFraming()
        self._lived = 0.0

    def live(self) -> None:
        """The board's time goes on to the loop's."""
        now = asyncio.get_running_loop().time()
        ticks = round((now - self._lived) * 1000 * MS)
        if ticks <= 0:
            return
        self._lived = now
        for start in range(0, ticks, MS):
            step = min(MS, ticks - start)
            self.core.advance(step / MS)
            self.world(step * 1e-6)

    async def open(self) -> None:
        self._refuse_if_gone()
        self._lived = self._lived or asyncio.get_running_loop().time()
        self.live()

    async def send(self, data: bytes) -> None:
        self._refuse_if_gone()
        self.live()
        for message in self._to.feed(data):
            self.core.write(b"".join(map(firmware.frame, self.said(message))))

    async def receive(self) -> bytes:
        while True:
            self._refuse_if_gone()
            self.live()
            messages = [m for message in self._from.feed(self.core.read()) for m in self.told(message)]
            if messages:
                return b"".join(map(firmware.frame, messages))
            await asyncio.sleep(LOOK)

    def discard(self) -> None: ...

    async def close(self) -> None: ...

    def _refuse_if_gone(self) -> None:
        if self.gone:
            raise ConnectionError("the cable was pulled")


@asynccontextmanager
async def stepped(
    *, connect: bool = True, reconnect: Reconnect | None = None, **options: Any
) -> AsyncIterator[tuple[InsituMcu, SteppedLink]]:
    """A driver and its board, whose holder is the stepped tests' own."""
    context = Context(Timebase.of_loop(asyncio.get_running_loop().time), Gate())
    link = SteppedLink(Stepped(eeprom(HOLDER)))
    session = Session(
        link, InsituMcu.framing("serial"), timebase=context.timebase, gate=context.gate, timeout=InsituMcu.timeout,
        reconnect=reconnect,
    )  # fmt: skip
    device = InsituMcu(session, "heater", options=InsituMcu.Options(**options), context=context)
    try:
        if connect:
            await device.connect()
        yield device, link
    finally:
        await put_away(device, context)
        assert link.core.board.violations == 0
