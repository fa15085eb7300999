"""The board's clock: asked again and again, brought onto lab time, and what it says of its readings."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from typing import Any

import numpy as np

from hal.clock.exchange import Exchange
from hal.clock.exchange_clock import ExchangeClock
from hal.errors import DeviceError, NoReply, ProtocolError
from hal.gate import Purpose, acting
from hal.model.reading import Answer
from hal.protocols import firmware_gen as gen
from hal.protocols.firmware import END_OF_TIME, Int64

from .board import Board, Done

BURST, APART = 8, 0.064
"""Time exchanges in a burst, and seconds between them: of eight some find the line and the machine idle."""
PAUSE = 0.5, 1.5
"""Seconds between bursts, drawn anew each time: in step with nothing."""


class TimedBoard(Board):
    """A board whose time is known."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.clock = self._new_clock(1e6)
        """The board's clock against lab time; a new one when a board says that its ticks are others."""
        self._exchange_listeners: tuple[Callable[[Exchange], None], ...] = ()
        self._timing: asyncio.Task[None] | None = None

    async def connected(self) -> None:
        for _ in range(BURST):
            await self.exchange_time()
        await super().connected()
        self._timing = self._timing or asyncio.create_task(self._keep_time(), name=f"{self.name} time")

    async def disconnecting(self) -> None:
        timing, self._timing = self._timing, None
        if timing is not None:
            timing.cancel()
            await asyncio.wait([timing])
        await super().disconnecting()

    async def exchange_time(self) -> Exchange | None:
        """Ask the board's time once and keep what was found; None if the answer was lost."""
        nonce = secrets.randbits(32)
        try:
            done = await self.do(gen.Time(self.session.timebase.now(), nonce), tries=1)
        except NoReply:
            return None
        reply: gen.TimeReply = done.reply
        if reply.nonce != nonce:
            return None
        found = Exchange(reply.boot, done.exchange.sent, reply.received, reply.sent, done.exchange.received)
        self.clock.add(found)
        for listener in self._exchange_listeners:
            self._hand(listener, found)
        if self.hello is not None and reply.boot != self.hello.boot:
            self._start_again()
        return found

    def on_exchange(self, listener: Callable[[Exchange], None]) -> None:
        """Call `listener` with every exchange of time, at once and in order; it must not wait."""
        self._exchange_listeners += (listener,)

    def off_exchange(self, listener: Callable[[Exchange], None]) -> None:
        """Undo `on_exchange`."""
        self._exchange_listeners = tuple(known for known in self._exchange_listeners if known != listener)

    def lab_time(self, ticks: Int64) -> tuple[Int64, Int64]:
        """Lab time of ticks of this epoch and its hard bound, ns. Raises `DeviceError` before it is known.

        `clock.to_lab` also has the bound to believe in and the standard uncertainty.
        """
        found = self.clock.to_lab(np.asarray(ticks, np.int64), boot=self._boot)
        if not found.valid.all():
            raise DeviceError(self.name, "its clock is not known yet; wait for a time exchange")
        return found.time, found.bound

    def stamped(self, done: Done, first: int, last: int) -> Answer:
        """The answer of what was so from tick `first` to tick `last`, by the board's clock where that tells more.

        The round trip is the truth in any case: the clock may only narrow it. Raises `ProtocolError`.
        """
        if not first <= last < END_OF_TIME:
            raise ProtocolError(self.name, f"it tells of ticks {first} to {last}, which can't be; reset it")
        earliest = done.exchange.sent - round((last - first) * 1e9 / self.clock.frequency)
        latest = done.exchange.received
        found = self.clock.to_lab(np.array([first, last], np.int64), boot=self._boot)
        if found.valid.all():
            began = max(earliest, int(found.time[0] - found.tight[0]))
            ended = min(latest, int(found.time[1] + found.tight[1]))
            if began <= ended:  # else the clock's bound is broken
                earliest, latest = began, ended
        return Answer(done.reply, earliest, latest, first)

    # ------------------------------------------------------------------ private

    def _new_clock(self, rate: float) -> ExchangeClock:
        o = self.options
        return ExchangeClock(
            frequency=rate, ppm=o.clock_ppm, name=self.name,
            delay_out=o.delay_out, delay_back=o.delay_back, delay_sigma=o.delay_sigma,
        )  # fmt: skip

    def _new_epoch(self, hello: gen.HelloReply, *, anew: bool) -> None:
        if hello.tick_rate != self.clock.frequency:
            self.clock = self._new_clock(hello.tick_rate)
        super()._new_epoch(hello, anew=anew)

    async def _keep_time(self) -> None:
        with acting(Purpose.POLL):
            while True:
                await asyncio.sleep(random.uniform(*PAUSE))
                for _ in range(BURST):
                    await asyncio.sleep(random.uniform(0.75, 1.25) * APART)
                    try:
                        await self.exchange_time()
                    except DeviceError:
                        break  # whoever needs the board will say so
                self._grant(again=True)
