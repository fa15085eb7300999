"""The holder that is plugged into the board: its data sheet, read anew whenever the board finds another one.

A holder may be exchanged while the board has power. The board compares its EEPROM all the time and numbers what it
finds; it arms, and writes, only for a host that brings the number it has now. So what is known here of the holder -
its limits, its curve, its certificate - is of the holder that heats, or nothing heats.
"""

from __future__ import annotations

import asyncio
from binascii import crc_hqx
from typing import Any

from hal.errors import DeviceError, LimitError, NoReply, Refused
from hal.instrument.address import Calls
from hal.model.reading import Answer
from hal.model.signal import Kind, SignalR
from hal.model.status import Status
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware_gen import Capability, TedsState

from . import teds
from .teds import DataSheet
from .watching import WatchingBoard
from .words import TEDS

SETTLES_WITHIN = 1.0
"""Seconds in which the board has read a changed EEPROM."""
WRITTEN_WITHIN = 5.0
"""Seconds in which it has written one."""
LOOK_AGAIN = 0.02
"""Seconds between two questions whether it has."""


class HolderBoard(WatchingBoard):
    """A board and the holder at it."""

    holder_model = SignalR(str, at=Calls("sheet", convert=lambda s: s.model if s else ""), kind=Kind.CONFIG)
    holder_serial = SignalR(str, at=Calls("sheet", convert=lambda s: s.serial if s else ""), kind=Kind.CONFIG)

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.data_sheet: DataSheet | None = None
        """The TEDS of the holder that is there; None: it is blank or damaged, none is there, or it is being read."""
        self.holder = 0
        """The board's number of what `data_sheet` was read of; 0: it has another one by now."""
        self._before = ""
        self._changes = 0
        self._learning = asyncio.Lock()
        self._learner: asyncio.Task[None] | None = None

    def read_teds(self) -> Status[DataSheet | None]:
        """Read the holder's data sheet; None if it is blank. Raises `Refused` if it is damaged or none is there."""
        self.need(Capability.EEPROM, "EEPROM")
        return Status(self._read_teds(), name=f"{self.name} read_teds", device=self, safe_on_error=False)

    def write_teds(self, sheet: DataSheet | None) -> Status[None]:
        """Write the data sheet of the holder that was read (None: erase it). Only with everything off; takes a second.

        Without power in the middle of it the area is damaged, never a mixture: write it again. Raises `LimitError`.
        """
        self.need(Capability.EEPROM, "EEPROM")
        try:
            content = b"\xff" * teds.AREA if sheet is None else sheet.packed()
        except ValueError as error:
            raise LimitError(f"{self.name}: this data sheet can't be written: {error}; nothing was sent") from None
        return self.start("write TEDS", self._write_teds(content))

    async def sheet(self) -> Answer:
        """What is known of the holder."""
        now = self.context.timebase.now()
        return Answer(self.data_sheet, now, now)

    async def learn_holder(self) -> None:
        """Read what the holder says of itself, unless that is known. Raises `Refused` if the board can't tell yet."""
        async with self._learning:
            for _ in range(round(SETTLES_WITHIN / LOOK_AGAIN)):
                changes = self._changes
                first: gen.TedsReadReply = (await self.do(gen.TedsRead(0, 128))).reply
                if first.holder == self.holder:
                    return
                second: gen.TedsReadReply = (await self.do(gen.TedsRead(128, 128))).reply
                status: gen.StatusReply = (await self.status()).reply
                settled = first.state not in (TedsState.READING, TedsState.WRITING)
                if settled and first.holder == second.holder == status.holder and changes == self._changes:
                    self._take(first.state, first.content + second.content)
                    await self.holder_is_known(status)
                    if changes == self._changes:
                        self.holder = first.holder
                        break
                await asyncio.sleep(LOOK_AGAIN)
            else:
                raise Refused(self.name, f"{TEDS[first.state]}; nothing is known of the holder")
        for signal in (self.holder_model, self.holder_serial):
            signal.publish(await signal.read())

    async def holder_is_known(self, status: gen.StatusReply) -> None:
        """Another holder's data sheet was read, or there is none; drivers take its limits, which are in `status`."""

    def exchanged(self) -> None:
        """The board has another holder than the one that is known: forget that one, and read who it is."""
        self.data_sheet, self.holder = None, 0
        self._changes += 1
        self.look_again()

    def look_again(self, number: int = 0) -> None:
        """Read who it is, if that is not known; `number`: of the board's holder now, as a report told it."""
        if self.holder and number not in (0, self.holder):  # the event that told of it was lost
            self.exchanged()
        if self.holder or self.read_only:
            return
        if self._learner is None or self._learner.done():
            self._learner = asyncio.create_task(self._learn_again(), name=f"{self.name} holder")

    def on_event(self, event: gen.Event) -> None:
        super().on_event(event)
        if event.kind is gen.EventKind.TEDS:
            if event.value == TedsState.READING:
                self.context.journal.note("holder", self.name, TEDS[TedsState.READING])
            self.exchanged()

    async def disconnecting(self) -> None:
        learner, self._learner = self._learner, None
        if learner is not None:
            learner.cancel()
            await asyncio.wait([learner])
        await super().disconnecting()

    # ------------------------------------------------------------------ private

    async def _learn_again(self) -> None:
        try:
            while not self.holder:
                await self.learn_holder()
        except DeviceError as error:
            self.context.journal.note("error", self.name, f"{error}; it does not arm until it is read")

    def _take(self, state: TedsState, area: bytes) -> None:
        """Know the holder by its EEPROM, and say who it is."""
        self.data_sheet = None
        if not self.offers(Capability.EEPROM):
            return
        try:
            self.data_sheet = teds.unpacked(area) if state in (TedsState.VALID, TedsState.BLANK) else None
        except ValueError as error:
            self.context.journal.note("error", self.name, f"{error}; until then it does not arm")
            return
        if state not in (TedsState.VALID, TedsState.BLANK):
            self.context.journal.note("error", self.name, f"{TEDS[state]}; until then it does not arm")
        elif self.data_sheet is None:
            self.context.journal.note("holder", self.name, "the holder's TEDS is blank: the limits of the bench hold")
        else:
            who, before = f"{self.data_sheet.model} {self.data_sheet.serial}", self._before
            self._before = who
            than = "" if not before else ", the same as before" if who == before else f"; before, it was {before}"
            self.context.journal.note("holder", self.name, f"the holder is {who}{than}")

    async def _read_teds(self) -> DataSheet | None:
        await self.learn_holder()
        state: TedsState = (await self.status()).reply.teds
        if state not in (TedsState.VALID, TedsState.BLANK):
            raise Refused(self.name, TEDS[state])
        return self.data_sheet

    async def _write_teds(self, content: bytes) -> None:
        await self.learn_holder()
        meant = self.holder
        for offset in range(0, teds.AREA, 128):
            await self.do(gen.TedsWrite(offset, content[offset : offset + 128]))
        await self.do(gen.TedsCommit(crc_hqx(content, 0xFFFF), meant))
        for _ in range(round(WRITTEN_WITHIN / LOOK_AGAIN)):
            if (await self.status()).reply.teds is not TedsState.WRITING:
                break
            await asyncio.sleep(LOOK_AGAIN)
        else:
            raise NoReply(self.name, "the holder's EEPROM is still being written after 5 s; check its wires")
        await self._read_teds()
