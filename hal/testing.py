"""For tests: an event loop whose clock jumps, and drivers wired to their emulators.

    from hal.testing import wired

    async with wired("linkam_t95", name="heater", temperature=25.0) as (stage, wire):
        ...

The clock that jumps works with memory links only; real ports would never become ready on it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from .clock.timebase import Timebase
from .gate import Gate
from .instrument.bench import Bench
from .instrument.emulator import Emulator, World
from .instrument.instrument import Instrument
from .model.context import Context
from .runtime import registry
from .transport.fault import Faults, FaultyLink
from .transport.memory import MemoryLink
from .transport.session import Reconnect, Session

PATIENCE = 0.25
"""Real seconds that the clock which jumps waits for work on a thread before it jumps all the same."""


class _JumpingSelector(selectors.DefaultSelector):
    loop: JumpingLoop

    def select(self, timeout: float | None = None) -> Any:
        # A thread takes real time: the clock stands meanwhile, but not for one that waits for the loop.
        ready = super().select(PATIENCE if timeout and self.loop.threads else 0)
        if not ready and timeout:
            self.loop.now += timeout
        elif not ready and timeout is None:
            # Nothing is scheduled and nothing can come from outside: a real loop would hang here.
            return super().select(1.0)
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """Sleeps take no time: when nothing is ready the clock jumps to the next timer."""

    def __init__(self) -> None:
        self.now = 0.0
        self.threads = 0
        """How many calls are done on threads (`asyncio.to_thread`) just now."""
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        future = super().run_in_executor(executor, func, *args)
        self.threads += 1
        future.add_done_callback(self._thread_is_done)
        return future

    def _thread_is_done(self, _: object) -> None:
        self.threads -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        # Without the timeout of Python 3.12: the clock would jump over it while the threads end.
        await super().shutdown_default_executor()

    async def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the clock that jumps works with memory links only; use a real loop for sockets")

    async def create_server(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the clock that jumps works with memory links only; use a real loop for sockets")

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        raise RuntimeError("the clock that jumps works with memory links only; use a real loop for ports")


class Wire:
    """The wire between a driver and its emulator, with a hand on it."""

    def __init__(self, link: MemoryLink, faulty: FaultyLink, emulator: Any, bench: Bench) -> None:
        self._link, self._faulty = link, faulty
        self.emulator = emulator
        """The instrument at the far end."""
        self.bench = bench
        self.world: Any = bench.world

    @property
    def sent(self) -> list[bytes]:
        """Everything the driver has sent since `forget` (opening included)."""
        return self._link.sent

    def forget(self) -> None:
        """Forget what was sent so far."""
        self._link.sent.clear()

    @property
    def faults(self) -> Faults:
        """What goes wrong on it."""
        return self._faulty.faults

    def unplug(self) -> None:
        """Pull the cable."""
        self._link.unplug()

    def plug(self) -> None:
        """Put it back."""
        self._link.plug()


@asynccontextmanager
async def wired(
    driver: str | type[Instrument],
    *,
    name: str = "",
    unit: int | str | None = None,
    channel: int | str | None = None,
    options: dict[str, Any] | None = None,
    scheme: str = "",
    world: World | None = None,
    context: Context | None = None,
    reconnect: Reconnect | None = None,
    emulator: Emulator | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Any, Wire]]:
    """Open a driver in memory against its own emulator; further `settings` go to the emulator.

    Yields the device and the wire; what opening took is forgotten from ``wire.sent``.
    """
    cls = registry.driver(driver) if isinstance(driver, str) else driver
    scheme = scheme or cls.wires[0]
    loop = asyncio.get_running_loop()
    context = context or Context(Timebase.of_loop(loop.time), Gate())
    if emulator is None:
        if world is None:
            world = registry.load("devices.physics:World")()
        make: Callable[..., Emulator] = registry.load(cls.emulator)
        emulator = make(world, unit=unit, channel=channel, **settings)
    bench = Bench(world if world is not None else registry.load("devices.physics:World")())
    link = MemoryLink(bench.wire([emulator], scheme))
    faulty = FaultyLink(link, Faults())
    session = Session(
        faulty, cls.framing(scheme), timebase=context.timebase, gate=context.gate, timeout=cls.timeout,
        pace=cls.pace, reconnect=reconnect,
    )  # fmt: skip
    device = cls(session, name, unit=unit, channel=channel, options=cls.Options(**(options or {})), context=context)
    wire = Wire(link, faulty, emulator, bench)
    await device.connect()
    wire.forget()
    try:
        yield device, wire
    finally:
        await put_away(device, context)


async def put_away(device: Instrument, context: Context) -> None:
    """End what polls and runs, then disconnect: for whoever wired a device by hand."""
    await context.close()
    if device.operation is not None:
        device.operation.cancel()
        await device.operation.ended()
    await device.disconnect()
