"""The board's own firmware, built for this machine, with its driver: what tests of the driver plug together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from devices.insitu_mcu.driver import InsituMcu
from devices.insitu_mcu.emulator import EmulatedBoard
from devices.insitu_mcu.page import Page
from devices.physics import World
from hal.gate import Gate
from hal.instrument.bench import Bench
from hal.model.context import Context
from hal.protocols import firmware_gen as gen
from hal.testing import put_away
from hal.transport.fault import Faults, FaultyLink
from hal.transport.serial import SerialLink
from hal.transport.session import Reconnect, Session


class BadBothWays(FaultyLink):
    """A wire that spoils what the host sends, too."""

    async def send(self, data: bytes) -> None:
        if self._random.random() >= self.faults.drop:
            await super().send(self._garbled(data) if self._random.random() < self.faults.garble / 3 else data)


class Plugged:
    """A driver, its board, and a hand on the wire between them."""

    def __init__(self, device: InsituMcu, board: EmulatedBoard, faults: Faults, session: Session) -> None:
        self.device, self.board, self.faults, self.session = device, board, faults, session

    @property
    def world(self) -> World:
        world = self.board.bench.world
        assert isinstance(world, World)
        return world

    @property
    def heater(self) -> int:
        """The board's heater output, 1/65535, at its pin."""
        assert self.board.page is not None
        return self.board.page["heater"]

    @property
    def page(self) -> Page:
        """The board's pins."""
        assert self.board.page is not None
        return self.board.page


@asynccontextmanager
async def plugged(
    *, reconnect: Reconnect | None = None, connect: bool = True, teds: bool = True, noise: float = 1.0, **options: float
) -> AsyncIterator[Plugged]:
    board = await EmulatedBoard("posix", Bench(World()), teds=teds, noise=noise).open()
    context = Context(gate=Gate())
    faults = Faults()
    link = BadBothWays(SerialLink(board.url.removeprefix("serial://"), InsituMcu.line), faults)
    session = Session(
        link, InsituMcu.framing("serial"), timebase=context.timebase, gate=context.gate,
        timeout=InsituMcu.timeout, reconnect=reconnect,
    )  # fmt: skip
    device = InsituMcu(session, "heater", options=InsituMcu.Options(**options), context=context)
    try:
        if connect:
            await device.connect()
        yield Plugged(device, board, faults, session)
    finally:
        await put_away(device, context)
        await board.close()


async def state(device: InsituMcu) -> gen.StatusReply:
    reply: gen.StatusReply = (await device.status()).reply
    return reply


async def until(what: Callable[[], object], within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.005)
